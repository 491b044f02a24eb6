// External data files: data at its guest offset, a raw file that always is the disk, and what
// happens to the file when clusters are zeroed, discarded and resized.
#include "tests/formats/qcow2/data_file_test.h"

#include "tests/support/random.h"

namespace cairn::qcow2 {
namespace {

using testing::IoKind;
using testing::Qcow2Builder;
using testing::Qcow2Shape;
using testing::SparseBytes;

TEST_F(DataFileTest, KeepsDataAtItsGuestOffsetAndMetadataInTheImage) {
  Qcow2Builder builder(shape());
  start(builder);
  const uint64_t metadata = image_.file().disk.visible().size();
  ASSERT_TRUE(image_.write(1, 0, 512));
  ASSERT_TRUE(image_.write(2, 40 * kUnit + 100, 3 * kUnit));
  EXPECT_TRUE(image_.holds(1, 0, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 512, kUnit));
  EXPECT_TRUE(image_.holds(2, 40 * kUnit + 100, 3 * kUnit));
  close_clean();
  EXPECT_TRUE(data_holds(1, 0, 512));
  EXPECT_TRUE(data_holds(2, 40 * kUnit + 100, 3 * kUnit));
  EXPECT_LE(image_.file().disk.visible().size(), metadata + kUnit);  // an L2 table
  EXPECT_EQ(entry_of(0), kEntryCopied);
  EXPECT_EQ(entry_of(41), kEntryCopied | 41 * kUnit);
  open(false);
  EXPECT_TRUE(image_.holds(1, 0, 512));
}

TEST_F(DataFileTest, FillsTheRestOfANewClusterWhateverTheFileHeld) {
  Qcow2Builder builder(shape());
  start(builder);
  ASSERT_TRUE(image_.write(1, 5 * kUnit, kUnit));
  ASSERT_TRUE(image_.zero(5 * kUnit, kUnit));  // keeps its place, and the data there
  EXPECT_TRUE(data_holds(1, 5 * kUnit, kUnit));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 5 * kUnit, kUnit));
  ASSERT_TRUE(image_.write(2, 5 * kUnit + 512, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 5 * kUnit, 512));
  EXPECT_TRUE(image_.holds(2, 5 * kUnit + 512, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 5 * kUnit + 1024, kUnit - 1024));
  close_clean();
}

TEST_F(DataFileTest, TheFirstClusterIsAsAnyOther) {
  Qcow2Builder builder(shape());
  start(builder);
  ASSERT_TRUE(image_.write(1, 0, kUnit));
  ASSERT_TRUE(image_.zero(0, kUnit));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, kUnit));
  ASSERT_TRUE(image_.flush());
  EXPECT_EQ(entry_of(0), kEntryCopied | kEntryZero);
  ASSERT_TRUE(image_.write(2, 512, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, 512));
  EXPECT_TRUE(image_.holds(2, 512, 512));
  ASSERT_TRUE(image_.zero(0, kUnit, {.may_unmap = true}));
  ASSERT_TRUE(image_.flush());
  EXPECT_EQ(entry_of(0), kEntryZero);
  close_clean();
}

// A cluster has one place. A hole that is punched late would erase what was written there since.
TEST_F(DataFileTest, ALateHolePunchDoesNotEraseAClusterWrittenAgain) {
  Qcow2Builder builder(shape());
  start(builder);
  ASSERT_TRUE(image_.write(1, 8 * kUnit, 8 * kUnit));
  ASSERT_TRUE(image_.flush());
  ASSERT_TRUE(image_.discard(8 * kUnit, 4 * kUnit));
  ASSERT_TRUE(image_.zero(12 * kUnit, 4 * kUnit, {.may_unmap = true}));
  EXPECT_TRUE(data_holds(testing::kZeroes, 8 * kUnit, 8 * kUnit)) << "is punched at once";
  ASSERT_TRUE(image_.write(2, 8 * kUnit, 8 * kUnit));
  ASSERT_TRUE(image_.flush());
  EXPECT_TRUE(image_.holds(2, 8 * kUnit, 8 * kUnit));
  close_clean();
  EXPECT_TRUE(data_holds(2, 8 * kUnit, 8 * kUnit));
}

TEST_F(DataFileTest, PunchesNothingWhenToldSo) {
  image_.options().pass_discard_request = false;
  Qcow2Builder builder(shape());
  start(builder);
  ASSERT_TRUE(image_.write(1, 0, 2 * kUnit));
  ASSERT_TRUE(image_.discard(0, 2 * kUnit));
  EXPECT_TRUE(data_holds(1, 0, 2 * kUnit));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, 2 * kUnit));
  close_clean();
}

TEST_F(DataFileTest, WhatLiesBeyondItsEndReadsAsZeroesAndIsWrittenAllTheSame) {
  Qcow2Builder builder(shape());
  start(builder);
  ASSERT_TRUE(image_.write(1, 0, kDiskSize));
  close_clean();
  SparseBytes cut = data();
  cut.resize(10 * kUnit + 512);
  image_.world().add("data", std::move(cut));
  open();
  EXPECT_TRUE(image_.holds(1, 0, 10 * kUnit + 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 10 * kUnit + 512, 20 * kUnit));
  ASSERT_TRUE(image_.write(2, 20 * kUnit, 512));
  EXPECT_TRUE(image_.holds(2, 20 * kUnit, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 11 * kUnit, 9 * kUnit));
  close_clean();
  EXPECT_EQ(data().size(), 20 * kUnit + 512);
}

// Data comes before the entries that lead to it, although it lies in another file.
TEST_F(DataFileTest, APowerCutAtAnyRequestShowsNothingThatWasNeverWritten) {
  for (const bool raw : {false, true}) {
    bool done = false;
    for (uint64_t request = 1; !done; ++request) {
      ImageWorld image(request);
      Qcow2Builder builder(shape(raw));
      image.world().add("image", builder.finish());
      // What nobody wrote: stale content of a file that was something else before.
      SparseBytes stale = builder.finish_data();
      if (!raw) {
        std::vector<std::byte> junk(kDiskSize);
        testing::fill_pattern(99, 0, junk);
        stale.write(0, junk);
      }
      image.world().add("data", std::move(stale));
      ASSERT_TRUE(image.open());
      image.world().cut_power_at(request);
      const bool first = image.write(1, 0, 4 * kUnit + 512) && image.flush();
      const bool second = first && image.write(2, 30 * kUnit + 512, 1024) && image.flush();
      const Result<void> closed = image.close();
      static_cast<void>(closed);
      done = image.world().powered();
      if (done) {
        image.world().cut_power();
      }
      image.world().restore_power();
      const auto report = image.verify();
      EXPECT_EQ(report.corruptions, std::vector<std::string>{}) << request;
      ASSERT_TRUE(image.open(false)) << request;
      for (uint64_t at = 0; at < kDiskSize; at += 512) {
        const bool in_first = at < 4 * kUnit + 512;
        const bool in_second = at >= 30 * kUnit + 512 && at < 30 * kUnit + 1536;
        const bool written =
            (in_first && image.holds(1, at, 512)) || (in_second && image.holds(2, at, 512));
        const bool flushed = (in_first && first) || (in_second && second);
        EXPECT_TRUE(written || (!flushed && image.holds(testing::kZeroes, at, 512)))
            << "byte " << at << ", power cut at request " << request;
      }
      ASSERT_TRUE(image.close());
      ASSERT_FALSE(HasFailure());
    }
  }
}

TEST_F(DataFileTest, AFailureAtAnyRequestLosesNothing) {
  bool done = false;
  for (uint64_t request = 0; !done; ++request) {
    ImageWorld image(request);
    Qcow2Builder builder(shape());
    image.world().add("image", builder.finish());
    image.world().add("data", builder.finish_data());
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(image.write(1, 0, 8 * kUnit));
    ASSERT_TRUE(image.flush());
    image.world().add_fault({.after = request, .error = request % 2 == 0 ? EIO : ENOSPC});
    const bool zeroed = image.zero(0, kUnit, {.may_unmap = true}).has_value();
    const bool written = image.write(2, 10 * kUnit + 512, 2 * kUnit).has_value();
    static_cast<void>(image.flush());
    done = image.world().faults() == 0;
    image.world().clear_faults();
    EXPECT_TRUE(!zeroed || image.holds(testing::kZeroes, 0, kUnit)) << request;
    EXPECT_TRUE(image.holds(1, kUnit, 7 * kUnit)) << request;
    EXPECT_TRUE(!written || image.holds(2, 10 * kUnit + 512, 2 * kUnit)) << request;
    ASSERT_TRUE(image.close()) << request;
    EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{}) << request;
    ASSERT_FALSE(HasFailure());
  }
}

// Whatever is done to the disk, its raw data file reads the same.
TEST_F(DataFileTest, ARawDataFileIsTheDiskAtAnyTime) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    testing::Random random(seed);
    ImageWorld image(seed);
    Qcow2Shape raw = shape(true);
    raw.extended_l2 = random.chance(50);
    raw.cluster_bits = raw.extended_l2 ? 14 : 12;
    Qcow2Builder builder(raw);
    image.world().add("image", builder.finish());
    image.world().add("data", builder.finish_data());
    ASSERT_TRUE(image.open());
    uint64_t size = kDiskSize;
    for (testing::WriteNumber number = 1; number <= 60; ++number) {
      const uint64_t offset = align_down(random.below(size), 512);
      const uint64_t length = std::min(align_up(random.between(1, 5 * kUnit), 512), size - offset);
      switch (random.below(5)) {
        case 0:
          ASSERT_TRUE(image.zero(offset, length, {.may_unmap = random.chance(50)}));
          break;
        case 1:
          ASSERT_TRUE(image.discard(offset, length));
          break;
        case 2:
          if (random.chance(20)) {
            size = align_up(random.between(kDiskSize / 2, 2 * kDiskSize), 512);
            ASSERT_TRUE(image.run(image.edge().resize(size, {})));
          }
          break;
        default:
          ASSERT_TRUE(image.write(number, offset, length));
      }
      std::vector<std::byte> guest(size);
      ASSERT_TRUE(image.run(image.edge().read(0, guest.data(), guest.size())));
      const SparseBytes& file = image.world().find("data")->disk.visible();
      ASSERT_EQ(file.size(), size) << "seed " << seed << " step " << number;
      ASSERT_EQ(guest, file.read(0, size)) << "seed " << seed << " step " << number;
    }
    ASSERT_TRUE(image.close());
    EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{}) << seed;
  }
}

TEST_F(DataFileTest, ZeroesAndDiscardsWhenTheDataFileCanDoNeither) {
  Qcow2Builder builder(shape(true));
  start(builder);
  data_file().traits.can_zero = false;
  data_file().traits.can_discard = false;
  ASSERT_TRUE(image_.write(1, 0, 8 * kUnit));
  ASSERT_TRUE(image_.zero(0, kUnit));
  EXPECT_TRUE(data_holds(testing::kZeroes, 0, kUnit));
  ASSERT_TRUE(image_.discard(kUnit, kUnit));
  EXPECT_TRUE(image_.holds(1, kUnit, kUnit)) << "advice that could not be taken";
  EXPECT_TRUE(data_holds(1, kUnit, kUnit));
  close_clean();
}

TEST_F(DataFileTest, GrowsAndShrinksWithTheDisk) {
  Qcow2Builder builder(shape());
  start(builder);
  ASSERT_TRUE(image_.write(1, 0, kDiskSize));
  ASSERT_TRUE(image_.run(image_.edge().resize(kDiskSize / 2, {})));
  EXPECT_EQ(data().size(), kDiskSize / 2);
  ASSERT_TRUE(image_.run(image_.edge().resize(2 * kDiskSize, {})));
  EXPECT_EQ(data().size(), 2 * kDiskSize);
  EXPECT_TRUE(image_.holds(1, 0, kDiskSize / 2));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kDiskSize / 2, kDiskSize));
  close_clean();
}

TEST_F(DataFileTest, WhatItHoldsBehindTheDiskDoesNotBecomeAPartOfIt) {
  for (const bool raw : {false, true}) {
    Qcow2Builder builder(shape(raw));
    start(builder);
    SparseBytes longer = data();
    longer.resize(4 * kDiskSize);
    std::vector<std::byte> junk(kDiskSize);
    testing::fill_pattern(99, kDiskSize, junk);
    longer.write(kDiskSize, junk);
    ASSERT_TRUE(image_.close());
    image_.world().add("data", std::move(longer));
    open();
    ASSERT_TRUE(image_.run(
        image_.edge().resize(2 * kDiskSize, {.preallocation = block::Preallocation::kMetadata})));
    EXPECT_TRUE(image_.holds(testing::kZeroes, kDiskSize, kDiskSize));
    close_clean();
  }
}

TEST_F(DataFileTest, AResizeThatTheDataFileRefusesChangesNothing) {
  Qcow2Builder builder(shape());
  start(builder);
  image_.world().add_fault({.kind = IoKind::kResize, .file = "data", .error = ENOSPC});
  const auto grown = image_.run(image_.edge().resize(2 * kDiskSize, {}));
  ASSERT_FALSE(grown);
  EXPECT_TRUE(grown.error().message().starts_with("Could not resize the external data file: "));
  EXPECT_EQ(image_.edge().node().length(), kDiskSize);
  close_clean();
}

// Commits end with it: what is dropped must not show zeroes where it still is mapped.
TEST_F(DataFileTest, APowerCutWhileItIsEmptiedShowsDataOrWhatIsBehind) {
  bool done = false;
  for (uint64_t request = 1; !done; ++request) {
    ImageWorld image(request);
    Qcow2Builder builder(shape());
    image.world().add("image", builder.finish());
    image.world().add("data", builder.finish_data());
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(image.write(1, 0, 8 * kUnit));
    ASSERT_TRUE(image.flush());
    image.world().cut_power_at(request);
    const Result<void> emptied = image.run(image.edge().make_empty());
    done = image.world().powered();
    static_cast<void>(image.close());
    if (done) {
      ASSERT_TRUE(emptied);
      image.world().cut_power();
    }
    image.world().restore_power();
    ASSERT_TRUE(image.open(false));
    for (uint64_t cluster = 0; cluster < 8; ++cluster) {
      const auto extent = image.run(image.driver().map(cluster * kUnit, kUnit));
      ASSERT_TRUE(extent);
      EXPECT_TRUE(extent->kind == block::Extent::Kind::kHole ||
                  image.holds(1, cluster * kUnit, kUnit))
          << "cluster " << cluster << ", power cut at request " << request;
    }
    ASSERT_TRUE(image.close());
    ASSERT_FALSE(HasFailure());
  }
}

}  // namespace
}  // namespace cairn::qcow2
