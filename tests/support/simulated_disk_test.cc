// What a simulated disk keeps through flushes and power cuts.
#include "tests/support/simulated_disk.h"

#include <set>

#include <gtest/gtest.h>

#include "tests/support/pattern.h"

namespace cairn::testing {
namespace {

constexpr uint64_t kSector = SimulatedDisk::kSector;

std::vector<std::byte> patterned(WriteNumber number, uint64_t offset, std::size_t length) {
  std::vector<std::byte> data(length);
  fill_pattern(number, offset, data);
  return data;
}

SimulatedDisk::ChangeId write(SimulatedDisk& disk, WriteNumber number, uint64_t offset,
                              std::size_t length) {
  const auto id = disk.begin_write(offset, patterned(number, offset, length));
  disk.apply(id);
  disk.complete(id);
  return id;
}

void flush(SimulatedDisk& disk) {
  const auto changes = disk.begin_flush();
  disk.complete_flush(changes);
}

bool holds(const SparseBytes& bytes, WriteNumber number, uint64_t offset, std::size_t length) {
  return bytes.read(offset, length) == patterned(number, offset, length);
}

// The numbers of the writes that sector `index` holds after power cuts with many seeds.
std::set<WriteNumber> outcomes(const SimulatedDisk& disk, uint64_t index, WriteNumber last) {
  std::set<WriteNumber> found;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const SparseBytes after = disk.power_cut(random);
    bool known = false;
    for (WriteNumber number = 0; number <= last; ++number) {
      if (holds(after, number, index * kSector, kSector)) {
        found.insert(number);
        known = true;
      }
    }
    EXPECT_TRUE(known) << "a torn sector";
  }
  return found;
}

TEST(SimulatedDiskTest, WritesAreVisibleOnceTheyAreApplied) {
  SimulatedDisk disk;
  const auto id = disk.begin_write(0, patterned(1, 0, kSector));
  EXPECT_EQ(disk.size(), 0U);
  disk.apply(id);
  EXPECT_TRUE(holds(disk.visible(), 1, 0, kSector));
  EXPECT_EQ(disk.durable().size(), 0U);
}

TEST(SimulatedDiskTest, AFlushMakesDurableWhatCompletedBeforeItAndNothingElse) {
  SimulatedDisk disk;
  write(disk, 1, 0, kSector);
  const auto second = disk.begin_write(kSector, patterned(2, kSector, kSector));
  disk.apply(second);
  const auto changes = disk.begin_flush();
  disk.complete(second);
  write(disk, 3, 2 * kSector, kSector);
  disk.complete_flush(changes);
  EXPECT_TRUE(holds(disk.durable(), 1, 0, kSector));
  EXPECT_TRUE(holds(disk.durable(), kZeroes, kSector, 2 * kSector));
  flush(disk);
  EXPECT_TRUE(holds(disk.durable(), 2, kSector, kSector));
  EXPECT_EQ(disk.unflushed(), 0U);
}

TEST(SimulatedDiskTest, FuaIsDurableAtCompletion) {
  SimulatedDisk disk;
  write(disk, 1, 0, kSector);
  const auto id = disk.begin_write(0, patterned(2, 0, kSector));
  disk.apply(id);
  disk.complete(id, true);
  EXPECT_TRUE(holds(disk.durable(), 2, 0, kSector));
  // The write before it is still unflushed, but it can not come back over the newer one.
  EXPECT_EQ(outcomes(disk, 0, 2), std::set<WriteNumber>{2});
}

TEST(SimulatedDiskTest, APowerCutKeepsOrLosesEveryUnflushedWriteOfASector) {
  SimulatedDisk disk;
  write(disk, 1, 0, kSector);
  flush(disk);
  write(disk, 2, 0, kSector);
  write(disk, 3, 0, kSector);
  disk.begin_write(0, patterned(4, 0, kSector));  // in flight
  EXPECT_EQ(outcomes(disk, 0, 4), (std::set<WriteNumber>{1, 2, 3, 4}));
}

TEST(SimulatedDiskTest, APowerCutTearsWritesBetweenSectors) {
  SimulatedDisk disk;
  write(disk, 1, 0, 8 * kSector);
  bool torn = false;
  for (uint64_t seed = 0; seed < 300 && !torn; ++seed) {
    Random random(seed);
    const SparseBytes after = disk.power_cut(random);
    int kept = 0;
    for (uint64_t sector = 0; sector < 8; ++sector) {
      kept += holds(after, 1, sector * kSector, kSector) ? 1 : 0;
    }
    torn = kept > 0 && kept < 8;
  }
  EXPECT_TRUE(torn);
}

TEST(SimulatedDiskTest, HolePunchesAreAsUnorderedAsWrites) {
  SimulatedDisk disk;
  write(disk, 1, 0, kSector);
  flush(disk);
  const auto punch = disk.begin_zero(0, kSector);
  disk.apply(punch);
  disk.complete(punch);
  write(disk, 2, 0, kSector);
  EXPECT_EQ(outcomes(disk, 0, 2), (std::set<WriteNumber>{0, 1, 2}));
}

TEST(SimulatedDiskTest, WritesOfPartsOfASectorCarryTheRest) {
  SimulatedDisk disk;
  write(disk, 1, 0, kSector);
  write(disk, 2, 8, 8);
  write(disk, 3, 16, 8);
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const SparseBytes after = disk.power_cut(random);
    if (after.size() == 0) {
      continue;
    }
    if (holds(after, 3, 16, 8)) {
      EXPECT_TRUE(holds(after, 2, 8, 8));
    }
    if (holds(after, 2, 8, 8)) {
      EXPECT_TRUE(holds(after, 1, 0, 8));
    }
  }
}

TEST(SimulatedDiskTest, TheSizeIsAsVolatileAsTheContent) {
  SimulatedDisk disk;
  write(disk, 1, 0, 4 * kSector);
  flush(disk);
  const auto shrink = disk.begin_resize(kSector);
  disk.apply(shrink);
  disk.complete(shrink);
  EXPECT_EQ(disk.size(), kSector);
  std::set<uint64_t> sizes;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Random random(seed);
    sizes.insert(disk.power_cut(random).size());
  }
  EXPECT_EQ(sizes, (std::set<uint64_t>{kSector, 4 * kSector}));
  flush(disk);
  EXPECT_EQ(disk.durable().size(), kSector);
}

TEST(SimulatedDiskTest, ADurableWriteIsNotCutOffByAnEarlierResize) {
  SimulatedDisk disk;
  write(disk, 1, 0, 4 * kSector);
  for (const uint64_t size : {kSector, 4 * kSector}) {
    const auto resize = disk.begin_resize(size);
    disk.apply(resize);
    disk.complete(resize);
  }
  const auto id = disk.begin_write(2 * kSector, patterned(2, 2 * kSector, kSector));
  disk.apply(id);
  disk.complete(id, true);
  flush(disk);
  EXPECT_TRUE(holds(disk.durable(), 2, 2 * kSector, kSector));
  EXPECT_TRUE(holds(disk.durable(), kZeroes, kSector, kSector));
}

TEST(SimulatedDiskTest, ATornWriteHidesNothingWhereItIsTorn) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SimulatedDisk disk;
    Random random(seed);
    const auto slow = disk.begin_write(0, patterned(1, 0, 4 * kSector));
    disk.apply(slow);
    disk.apply_torn(disk.begin_write(0, patterned(2, 0, 4 * kSector)), random);
    flush(disk);
    disk.complete(slow);
    flush(disk);
    for (uint64_t at = 0; at < 4 * kSector; at += kSector) {
      EXPECT_TRUE(holds(disk.durable(), 1, at, kSector) || holds(disk.durable(), 2, at, kSector));
    }
  }
}

TEST(SimulatedDiskTest, AFailedWriteLeavesNothingOrSomeSectors) {
  SimulatedDisk disk;
  const auto clean = disk.begin_write(0, patterned(1, 0, kSector));
  disk.forget(clean);
  EXPECT_EQ(disk.unflushed(), 0U);
  bool partial = false;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    SimulatedDisk torn;
    Random random(seed);
    torn.apply_torn(torn.begin_write(0, patterned(1, 0, 4 * kSector)), random);
    const bool first = holds(torn.visible(), 1, 0, kSector);
    const bool last = holds(torn.visible(), 1, 3 * kSector, kSector);
    partial |= first != last;
  }
  EXPECT_TRUE(partial);
}

}  // namespace
}  // namespace cairn::testing
