// Dirty bitmaps: their bits, and what the choke point marks in them.
#include "block/dirty_bitmap.h"

#include <cerrno>
#include <set>

#include "block/dirty_bitmap_ops.h"
#include "io/task_group.h"
#include "tests/block/block_test.h"

namespace cairn::block {
namespace {

using testing::Random;

TEST(SparseBitsTest, AgreesWithASetOfNumbersThroughRandomChanges) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Random random(seed);
    SparseBits bits(random.between(1, 5 * SparseBits::kChunkBits));
    std::vector<bool> model(bits.size());
    for (int step = 0; step < 200; ++step) {
      const uint64_t first = random.below(bits.size() + 10);
      const uint64_t length = random.chance(50) ? random.below(100) : random.below(bits.size() * 2);
      const bool value = random.chance(60);
      value ? bits.set(first, length) : bits.clear(first, length);
      for (uint64_t i = first; i < std::min<uint64_t>(first + length, model.size()); ++i) {
        model[i] = value;
      }
      if (random.chance(10)) {
        bits.resize(random.between(1, 5 * SparseBits::kChunkBits));
        model.resize(bits.size());
      }
      ASSERT_EQ(bits.count(), static_cast<uint64_t>(std::ranges::count(model, true)));
    }
    uint64_t at = 0;
    for (uint64_t i = 0; i < model.size(); ++i) {
      ASSERT_EQ(bits.test(i), model[i]) << "seed " << seed << " bit " << i;
    }
    while (const auto next = bits.next_set(at, bits.size())) {
      ASSERT_TRUE(std::none_of(model.begin() + static_cast<std::ptrdiff_t>(at),
                               model.begin() + static_cast<std::ptrdiff_t>(*next),
                               [](bool bit) { return bit; }));
      at = bits.next_clear(*next, bits.size()).value_or(bits.size());
      ASSERT_TRUE(std::all_of(model.begin() + static_cast<std::ptrdiff_t>(*next),
                              model.begin() + static_cast<std::ptrdiff_t>(at),
                              [](bool bit) { return bit; }));
    }
  }
}

TEST(SparseBitsTest, BytesCarryABitmapOver) {
  Random random(7);
  SparseBits bits(3 * SparseBits::kChunkBits + 77);
  bits.set(SparseBits::kChunkBits, SparseBits::kChunkBits);
  for (int i = 0; i < 500; ++i) {
    bits.set(random.below(bits.size()), random.below(20));
  }
  std::vector<std::byte> bytes((bits.size() + 7) / 8 + 100);
  bits.copy_bytes(0, bytes);
  // What lies beyond the end does not come along.
  std::fill(bytes.end() - 100, bytes.end(), std::byte{0xff});
  SparseBits copy(bits.size());
  for (std::size_t done = 0; done < bytes.size(); done += 512) {
    copy.merge_bytes(
        done * 8, std::span(bytes).subspan(done, std::min<std::size_t>(512, bytes.size() - done)));
  }
  EXPECT_EQ(copy.count(), bits.count());
  for (uint64_t i = 0; i < bits.size(); ++i) {
    ASSERT_EQ(copy.test(i), bits.test(i)) << i;
  }
}

TEST(SparseBitsTest, MergesAndCopiesKeepCounts) {
  SparseBits a(100000);
  SparseBits b(100000);
  a.set(0, 40000);
  b.set(39000, 5);
  b.set(65536, 34464);
  SparseBits both = a;
  both.merge(b);
  EXPECT_EQ(both.count(), 74464U);
  EXPECT_EQ(a.count(), 40000U);
  both.merge(SparseBits(100000));
  EXPECT_EQ(both.count(), 74464U);
  both.clear_all();
  EXPECT_EQ(both.count(), 0U);
  EXPECT_FALSE(both.next_set(0, both.size()));
}

TEST(DirtyBitmapTest, MergesAcrossGranularities) {
  DirtyBitmap coarse("coarse", 65536, 1 << 20);
  DirtyBitmap fine("fine", 512, 1 << 20);
  fine.mark(65535, 2);
  fine.mark((1 << 20) - 1, 1);
  coarse.merge(fine);
  EXPECT_EQ(coarse.count(), 3 * 65536U);
  DirtyBitmap finer("finer", 1024, 1 << 20);
  finer.merge(coarse);
  EXPECT_EQ(finer.count(), 3 * 65536U);
}

TEST(DirtyBitmapTest, UnmarksOnlyWholeGranules) {
  DirtyBitmap bitmap("b", 4096, 10000);
  bitmap.mark(0, 10000);
  EXPECT_EQ(bitmap.count(), 3 * 4096U);
  bitmap.unmark(1, 8191);
  EXPECT_TRUE(bitmap.marked(0));
  EXPECT_FALSE(bitmap.marked(4096));
  EXPECT_TRUE(bitmap.marked(9999));
  bitmap.unmark(8192, 10000 - 8192);
  EXPECT_FALSE(bitmap.marked(9999)) << "the node's end covers the last granule";
  EXPECT_EQ(bitmap.next_marked(0, 10000), 0U);
  EXPECT_EQ(bitmap.next_unmarked(0, 10000), 4096U);
  EXPECT_FALSE(bitmap.next_marked(4096, 10000));
}

TEST(DirtyBitmapTest, SaysWhatItIsNotGoodFor) {
  DirtyBitmap bitmap("b", 512, 512);
  EXPECT_TRUE(bitmap.check());
  {
    const DirtyBitmap::Use use(bitmap);
    EXPECT_EQ(bitmap.check().error().message(),
              "Bitmap 'b' is currently in use by another operation and cannot be used");
  }
  bitmap.set_read_only(true);
  EXPECT_EQ(bitmap.check().error().message(), "Bitmap 'b' is readonly and cannot be modified");
  EXPECT_TRUE(bitmap.check({.read_only = true}));
  bitmap.set_read_only(false);
  bitmap.set_inconsistent();
  EXPECT_EQ(bitmap.check().error().message(), "Bitmap 'b' is inconsistent and cannot be used");
  EXPECT_FALSE(bitmap.recording());
}

class BitmapMarkTest : public BlockTest {
 protected:
  void add(Edge& edge, const std::string& name, std::optional<uint64_t> granularity = {}) {
    const Result<void> added =
        run(add_bitmap(edge.node(), {.name = name, .granularity = granularity}));
    ASSERT_TRUE(added) << added.error().message();
  }
  static DirtyBitmap& bitmap(Edge& edge, const std::string& name) {
    return **get_bitmap(edge.node(), name);
  }
};

TEST_F(BitmapMarkTest, WritesZeroesAndDiscardsMarkWhatTheyTouch) {
  Edge& edge = attach_format();
  add(edge, "b", 512);
  ASSERT_TRUE(write(edge, 1, 1000, 100));
  EXPECT_EQ(bitmap(edge, "b").count(), 1024U);
  ASSERT_TRUE(run(edge.write_zeroes(kUnit, kUnit)));
  EXPECT_EQ(bitmap(edge, "b").count(), 1024U + kUnit);
  ASSERT_TRUE(run(edge.discard(4 * kUnit, 2 * kUnit)));
  EXPECT_EQ(bitmap(edge, "b").count(), 1024U + 3 * kUnit);
  EXPECT_TRUE(holds(edge, testing::kZeroes, 10 * kUnit, kUnit));
  EXPECT_EQ(bitmap(edge, "b").count(), 1024U + 3 * kUnit) << "reading marks nothing";
}

TEST_F(BitmapMarkTest, RequestsThatPassAFormatMarkTheFileBelow) {
  Edge& edge = attach_format();
  ASSERT_TRUE(write(edge, 1, 0, kUnit));
  Node& file = edge.node().child("file")->node();
  const Result<void> added = run(add_bitmap(file, {.name = "below", .granularity = 512}));
  ASSERT_TRUE(added);
  // In place: without the bitmap this would go straight to the leaf.
  ASSERT_TRUE(write(edge, 2, 512, 512));
  EXPECT_EQ((*get_bitmap(file, "below"))->count(), 512U);
  const uint64_t before = file.length();
  ASSERT_TRUE(write(edge, 3, 20 * kUnit, kUnit));
  EXPECT_GT(file.length(), before);
  EXPECT_EQ((*get_bitmap(file, "below"))->length(), file.length()) << "it grows with the file";
  EXPECT_EQ((*get_bitmap(file, "below"))->count(), 512U + kUnit);
}

io::Task<void> write_granule(Edge& edge, void* from) {
  const Result<void> written = co_await edge.write(8192, from, 4096);
  EXPECT_TRUE(written);
}

io::Task<void> clear_early_and_add_late(Edge& edge) {
  EXPECT_EQ((*get_bitmap(edge.node(), "early"))->count(), 4096U) << "marked on the way in";
  const Result<void> cleared = co_await clear_bitmap(edge.node(), "early");
  EXPECT_TRUE(cleared);
  NewBitmap late{.name = "late"};
  const Result<void> added = co_await add_bitmap(edge.node(), std::move(late));
  EXPECT_TRUE(added);
  EXPECT_EQ((*get_bitmap(edge.node(), "late"))->count(), 0U);
}

io::Task<void> write_and_meanwhile(Edge& edge, void* from) {
  io::TaskGroup group;
  group.spawn(write_granule(edge, from));
  group.spawn(clear_early_and_add_late(edge));
  co_await group.join();
}

TEST_F(BitmapMarkTest, AWriteInFlightIsInABitmapMadeOrClearedMeanwhile) {
  world_.set_delays(std::chrono::milliseconds(1));
  Edge& edge = attach_file("disk", 1 << 20);
  add(edge, "early", 4096);
  std::vector<std::byte> data(4096);
  run(write_and_meanwhile(edge, data.data()));
  EXPECT_EQ(bitmap(edge, "early").count(), 4096U);
  EXPECT_EQ(bitmap(edge, "late").count(), 65536U);
}

TEST_F(BitmapMarkTest, AFailedWriteIsMarkedToo) {
  Edge& edge = attach_file("disk", 1 << 20);
  add(edge, "b", 512);
  world_.add_fault({.kind = testing::IoKind::kWrite});
  EXPECT_FALSE(write(edge, 1, 0, 512));
  EXPECT_EQ(bitmap(edge, "b").count(), 512U);
}

TEST_F(BitmapMarkTest, ADisabledBitmapMarksNothing) {
  Edge& edge = attach_file("disk", 1 << 20);
  add(edge, "b", 512);
  ASSERT_TRUE(run(enable_bitmap(edge.node(), "b", false)));
  ASSERT_TRUE(write(edge, 1, 0, 512));
  EXPECT_EQ(bitmap(edge, "b").count(), 0U);
}

TEST_F(BitmapMarkTest, ANodeWithoutBitmapsAnyMoreIsNotObserved) {
  Edge& edge = attach_file("disk", 1 << 20);
  add(edge, "b");
  EXPECT_TRUE(edge.node().observed());
  ASSERT_TRUE(run(remove_bitmap(edge.node(), "b")));
  EXPECT_FALSE(edge.node().observed());
  EXPECT_EQ(run(remove_bitmap(edge.node(), "b")).error().message(), "Dirty bitmap 'b' not found");
}

TEST_F(BitmapMarkTest, RefusesWhatMakesNoSense) {
  Edge& edge = attach_file("disk", 1 << 20);
  const auto refusal = [&](NewBitmap wanted) {
    const Result<void> added = run(add_bitmap(edge.node(), std::move(wanted)));
    return added ? std::string("taken") : added.error().message();
  };
  EXPECT_EQ(refusal({.name = ""}), "Bitmap name cannot be empty");
  for (const uint64_t bad : {uint64_t{0}, uint64_t{256}, uint64_t{1000}, uint64_t{1} << 32}) {
    EXPECT_EQ(refusal({.name = "b", .granularity = bad}),
              "Granularity must be power of 2 and at least 512");
  }
  EXPECT_EQ(refusal({.name = "b", .granularity = uint64_t{1} << 31}), "taken");
  EXPECT_EQ(refusal({.name = "b"}), "Bitmap already exists: b");
  EXPECT_THAT(refusal({.name = "p", .persistent = true}),
              ::testing::StartsWith("Can't store persistent bitmaps to "));
}

TEST_F(BitmapMarkTest, AMergeThatFailsChangesNothing) {
  Edge& edge = attach_file("disk", 1 << 20);
  Edge& other = attach_file("other", 2 << 20);
  add(edge, "to", 512);
  add(edge, "from", 512);
  add(other, "far", 512);
  ASSERT_TRUE(run(enable_bitmap(edge.node(), "to", false)));
  ASSERT_TRUE(write(edge, 1, 0, 512));
  const Result<void> sizes =
      run(merge_bitmaps(edge.node(), "to", {{&edge.node(), "from"}, {&other.node(), "far"}}));
  ASSERT_FALSE(sizes);
  EXPECT_EQ(sizes.error().message(),
            "Bitmaps are of different sizes (destination size is 1048576, source size is 2097152) "
            "and can't be merged");
  EXPECT_EQ(bitmap(edge, "to").count(), 0U);
  ASSERT_TRUE(run(merge_bitmaps(edge.node(), "to", {{&edge.node(), "from"}})));
  EXPECT_EQ(bitmap(edge, "to").count(), 512U);
}

TEST_F(BitmapMarkTest, TheBitsAreReadAsWords) {
  Edge& edge = attach_file("disk", 1 << 20);
  add(edge, "b", 65536);
  std::vector<std::byte> seen;
  const auto take = [&seen](std::span<const std::byte> bytes) {
    seen.insert(seen.end(), bytes.begin(), bytes.end());
  };
  ASSERT_TRUE(read_bitmap(edge.node(), "b", take));
  EXPECT_EQ(seen, std::vector<std::byte>(8));
  ASSERT_TRUE(write(edge, 1, 65536 * 9, 1));
  seen.clear();
  ASSERT_TRUE(read_bitmap(edge.node(), "b", take));
  std::vector<std::byte> expected(8);
  expected[1] = std::byte{2};
  EXPECT_EQ(seen, expected);
  EXPECT_FALSE(read_bitmap(edge.node(), "none", take));
}

}  // namespace
}  // namespace cairn::block
