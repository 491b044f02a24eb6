// Bitmaps after a crash: they are there, with all that was written and little more; unless somebody
// else has written to the image since.
#include <string>
#include <vector>

#include "formats/qcow2/write_intent.h"
#include "tests/formats/qcow2/bitmap_test.h"
#include "tests/support/random.h"

namespace cairn::qcow2 {
namespace {

using block::DirtyBitmap;
using testing::Random;

constexpr uint64_t kMiB = 1 << 20;
constexpr auto kLongEnough = std::chrono::seconds(100);

class Qcow2BitmapRecovery : public ::testing::Test {
 protected:
  void start(testing::Qcow2Shape shape) {
    testing::Qcow2Builder builder(std::move(shape));
    image_.world().add("image", builder.finish());
    open();
    ASSERT_TRUE(image_.add("b"));
    reopen();
  }
  void open(bool writable = true) {
    const auto opened = image_.open(writable);
    ASSERT_TRUE(opened) << opened.error().message();
  }
  void reopen() {
    const auto closed = image_.close();
    ASSERT_TRUE(closed) << closed.error().message();
    open();
  }
  void crash(bool writable = true) {
    image_.crash();
    open(writable);
  }
  [[nodiscard]] DirtyBitmap& bitmap(std::string_view name = "b") { return *image_.find(name); }
  [[nodiscard]] uint64_t autoclear() {
    const auto raw = image_.file().disk.visible().read(header_offset::kAutoclear, 8);
    return load_be<uint64_t>(raw.data());
  }

  BitmapWorld image_;
};

TEST_F(Qcow2BitmapRecovery, HasWhatWasWrittenAndLittleMore) {
  start({.size = 64 * kMiB});
  ASSERT_TRUE(image_.write(1, 5 * kMiB, 512));
  ASSERT_TRUE(image_.zero(20 * kMiB, 65536));
  ASSERT_TRUE(image_.discard(30 * kMiB, 65536));
  crash();
  ASSERT_FALSE(bitmap().inconsistent());
  EXPECT_TRUE(bitmap().enabled());
  EXPECT_TRUE(bitmap().marked(5 * kMiB));
  EXPECT_TRUE(bitmap().marked(20 * kMiB));
  EXPECT_TRUE(bitmap().marked(30 * kMiB));
  EXPECT_EQ(bitmap().count(), 3U * 65536);
  // It goes on to record, and to survive.
  ASSERT_TRUE(image_.write(2, 40 * kMiB, 512));
  crash();
  EXPECT_EQ(bitmap().count(), 4U * 65536);
  reopen();
  EXPECT_EQ(image_.in_use_on_disk("b"), false);
  EXPECT_EQ(bitmap().count(), 4U * 65536);
  EXPECT_EQ(autoclear(), kAutoclearBitmaps) << "a stored image is as any program leaves it";
}

TEST_F(Qcow2BitmapRecovery, WorksWithoutAnyWriteInBetween) {
  start({.size = 64 * kMiB});
  ASSERT_TRUE(image_.write(1, 0, 512));
  for (int i = 0; i < 3; ++i) {
    crash();
    EXPECT_EQ(bitmap().count(), 65536U);
  }
  crash(false);
  EXPECT_TRUE(bitmap().read_only());
  EXPECT_FALSE(bitmap().inconsistent());
  EXPECT_EQ(bitmap().count(), 65536U);
}

TEST_F(Qcow2BitmapRecovery, IsRefusedWhenAnotherProgramHadTheImage) {
  start({.size = 64 * kMiB});
  ASSERT_TRUE(image_.write(1, 0, 512));
  image_.crash();
  opened_by_another_program(image_.file());
  open();
  EXPECT_TRUE(bitmap().inconsistent());
  // What others record from now on does not bring it back.
  ASSERT_TRUE(image_.add("other"));
  ASSERT_TRUE(image_.write(2, 0, 512));
  crash();
  EXPECT_TRUE(bitmap().inconsistent());
  EXPECT_FALSE(bitmap("other").inconsistent());
  EXPECT_TRUE(bitmap("other").marked(0));
}

TEST_F(Qcow2BitmapRecovery, SmallClustersHaveNoRoomForIt) {
  start({.cluster_bits = 9, .size = kMiB});
  ASSERT_TRUE(image_.write(1, 0, 512));
  crash();
  EXPECT_TRUE(bitmap().inconsistent());
  EXPECT_EQ(autoclear(), kAutoclearBitmaps);
}

TEST_F(Qcow2BitmapRecovery, ClearingForgetsWhatWasBefore) {
  start({.size = 64 * kMiB});
  ASSERT_TRUE(image_.write(1, 5 * kMiB, 512));
  ASSERT_TRUE(image_.run(block::clear_bitmap(image_.node(), "b")));
  image_.sleep(kLongEnough);
  ASSERT_TRUE(image_.write(2, 9 * kMiB, 512));
  crash();
  EXPECT_EQ(bitmap().count(), 65536U);
  EXPECT_TRUE(bitmap().marked(9 * kMiB));
}

TEST_F(Qcow2BitmapRecovery, BecomesExactWhenWritesHaveGoneElsewhere) {
  start({.cluster_bits = 16, .size = uint64_t{16} << 30});
  ASSERT_TRUE(image_.write(1, 5 * kMiB, 512));
  crash();
  EXPECT_EQ(bitmap().count(), kMiB) << "a group";
  reopen();
  ASSERT_TRUE(image_.run(block::clear_bitmap(image_.node(), "b")));
  ASSERT_TRUE(image_.write(1, 5 * kMiB, 512));
  image_.sleep(kLongEnough);
  crash();
  EXPECT_EQ(bitmap().count(), 65536U);
  // Where nothing was stored before, the map has it again.
  ASSERT_TRUE(image_.write(1, 5 * kMiB + 65536, 512));
  crash();
  EXPECT_EQ(bitmap().count(), kMiB);
}

TEST_F(Qcow2BitmapRecovery, MergedMarksAndSwitchesSurvive) {
  start({.size = 64 * kMiB});
  ASSERT_TRUE(image_.run(block::add_bitmap(image_.node(), {.name = "memory"})));
  ASSERT_TRUE(image_.run(block::enable_bitmap(image_.node(), "b", false)));
  image_.sleep(kLongEnough);
  ASSERT_TRUE(image_.write(1, 7 * kMiB, 512));
  EXPECT_EQ(bitmap().count(), 0U);
  block::Node& node = image_.node();
  std::vector<block::BitmapSource> sources{{.node = &node, .name = "memory"}};
  ASSERT_TRUE(image_.run(block::merge_bitmaps(node, "b", std::move(sources))));
  crash();
  EXPECT_FALSE(bitmap().enabled());
  EXPECT_TRUE(bitmap().marked(7 * kMiB));
  ASSERT_TRUE(image_.run(block::enable_bitmap(image_.node(), "b", true)));
  ASSERT_TRUE(image_.write(2, 8 * kMiB, 512));
  crash();
  EXPECT_TRUE(bitmap().enabled());
  EXPECT_TRUE(bitmap().marked(8 * kMiB));
}

TEST_F(Qcow2BitmapRecovery, FollowsTheSizeAndTheDirectory) {
  start({.cluster_bits = 12, .size = 8 * kMiB});
  ASSERT_TRUE(image_.write(1, kMiB, 512));
  ASSERT_TRUE(image_.run(image_.edge().resize(4096 * kMiB)));
  ASSERT_TRUE(image_.write(2, 4000 * kMiB, 512));
  ASSERT_TRUE(image_.add("second", 65536));
  ASSERT_TRUE(image_.write(3, 2 * kMiB, 512));
  crash();
  EXPECT_TRUE(bitmap().marked(kMiB));
  EXPECT_TRUE(bitmap().marked(4000 * kMiB));
  EXPECT_TRUE(bitmap().marked(2 * kMiB));
  EXPECT_TRUE(bitmap("second").marked(2 * kMiB));
  ASSERT_TRUE(image_.run(block::remove_bitmap(image_.node(), "b")));
  ASSERT_TRUE(image_.write(4, 3 * kMiB, 512));
  crash();
  EXPECT_EQ(image_.find("b"), nullptr);
  EXPECT_TRUE(bitmap("second").marked(3 * kMiB));
  EXPECT_TRUE(bitmap("second").marked(2 * kMiB));
}

// Writes, clears and merges, and a cut at every request. Everything that was written since the last
// clear that had begun before is marked.
// The mark stays in memory, where it stands for what is left of its 64 KiB; so it does on disk.
TEST_F(Qcow2BitmapRecovery, KeepsAMarkWhoseChangeAShrinkHasDropped) {
  constexpr uint64_t kKiB = 1024;
  start({.size = kMiB});
  ASSERT_TRUE(image_.write(1, 80 * kKiB, 512));
  ASSERT_TRUE(image_.run(image_.edge().resize(72 * kKiB)));
  ASSERT_TRUE(bitmap().marked(64 * kKiB));
  crash();
  EXPECT_TRUE(bitmap().marked(64 * kKiB));
  EXPECT_EQ(bitmap().count(), 64 * kKiB);
}

TEST_F(Qcow2BitmapRecovery, APowerCutAtAnyRequestLosesNothing) {
  for (const uint32_t cluster_bits : {11U, 12U, 16U}) {
    for (uint64_t cut = 1;; ++cut) {
      SCOPED_TRACE(fmt::format("clusters of 2^{}, cut {}", cluster_bits, cut));
      BitmapWorld image(cut);
      testing::Qcow2Builder builder({.cluster_bits = cluster_bits, .size = 4 * kMiB});
      image.world().add("image", builder.finish());
      ASSERT_TRUE(image.open());
      ASSERT_TRUE(image.add("b", 512));
      ASSERT_TRUE(image.close());
      ASSERT_TRUE(image.open());
      image.world().cut_power_at(cut);
      Random random(7);
      std::vector<uint64_t> written;
      bool finished = true;
      for (int i = 0; i < 12 && finished; ++i) {
        const uint64_t at = random.below(4 * kMiB / 512) * 512;
        written.push_back(at);
        finished = image.write(1, at, 512).has_value();
        if (i == 6 && finished) {
          finished = image.run(block::clear_bitmap(image.node(), "b")).has_value();
          written.clear();
        }
        if (i % 4 == 3 && image.world().powered()) {
          image.sleep(kLongEnough);
        }
      }
      image.crash();
      ASSERT_TRUE(image.open(false));
      DirtyBitmap* found = image.find("b");
      ASSERT_NE(found, nullptr);
      EXPECT_FALSE(found->inconsistent());
      for (const uint64_t at : written) {
        EXPECT_TRUE(found->marked(at) || !image.holds(1, at, 512)) << at;
      }
      ASSERT_TRUE(image.close());
      if (HasFailure() || finished) {
        break;
      }
    }
  }
}

TEST_F(Qcow2BitmapRecovery, AWriteThatCanNotBeNotedDoesNotHappen) {
  start({.size = 64 * kMiB});
  ASSERT_TRUE(image_.write(1, 0, 512));
  image_.world().add_fault({.after = 0, .error = EIO});
  EXPECT_FALSE(image_.write(2, 32 * kMiB, 512));
  image_.world().clear_faults();
  EXPECT_FALSE(image_.holds(2, 32 * kMiB, 512));
  ASSERT_TRUE(image_.write(2, 32 * kMiB, 512));
  crash();
  EXPECT_TRUE(bitmap().marked(32 * kMiB));
}

// A directory that may or may not have become the one in use has a map of its own. What is said to
// be done from then on, even if it does nothing, is in the map that is believed after a crash.
TEST(Qcow2BitmapRecoveryAfterErrors, NothingIsAcknowledgedThatTheBelievedMapMayNotHave) {
  constexpr uint64_t kSeeds = 8;  // of what a power cut leaves
  bool failed = true;
  for (uint64_t run = 0; failed || run % kSeeds != 0; ++run) {
    BitmapWorld image(run);
    image.world().add("image", testing::Qcow2Builder({.size = 64 * kMiB}).finish());
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(image.add("b"));
    ASSERT_TRUE(image.close());
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(image.write(1, 0, 512));
    image.world().add_fault({.after = run / kSeeds, .times = UINT64_MAX, .error = ENOSPC});
    failed = !image.add("second");
    image.world().clear_faults();
    const bool done = image.discard(32 * kMiB + 512, 512).has_value();
    image.crash();
    ASSERT_TRUE(image.open());
    const DirtyBitmap& bitmap = *image.find("b");
    EXPECT_TRUE(!done || bitmap.inconsistent() || bitmap.marked(32 * kMiB)) << run;
  }
}

TEST(Qcow2IntentHead, TellsItselfFromEverythingElse) {
  IntentHead head{.directory_offset = 0x50000, .group_bits = 20, .sectors = 16, .vouched = {}};
  head.vouched = {true, false, true};
  auto bytes = head.serialize();
  EXPECT_EQ(IntentHead::parse(bytes), head);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= std::byte{4};
    EXPECT_FALSE(IntentHead::parse(bytes)) << i;
    bytes[i] ^= std::byte{4};
  }
  head.sectors = IntentHead::kMostSectors + 1;
  EXPECT_FALSE(IntentHead::parse(head.serialize()));
  head.sectors = 1;
  head.group_bits = 63;
  EXPECT_FALSE(IntentHead::parse(head.serialize()));
}

TEST(Qcow2IntentPlace, IsBehindTheEntriesOfTheLastCluster) {
  EXPECT_FALSE(WriteIntent::place(0x10000, 100, 512));
  EXPECT_FALSE(WriteIntent::place(0x10000, 100, 1024));
  const auto small = WriteIntent::place(0x10000, 100, 2048);
  ASSERT_TRUE(small);
  EXPECT_EQ(small->sectors, 2U);
  EXPECT_EQ(small->offset, 0x10000U + 512);
  const auto large = WriteIntent::place(0x10000, 65536 + 100, 65536);
  ASSERT_TRUE(large);
  EXPECT_EQ(large->sectors, 16U);
  EXPECT_EQ(large->offset, 0x30000U - 17 * 512);
  EXPECT_FALSE(WriteIntent::place(0x10000, 65536 - 600, 65536));
}

}  // namespace
}  // namespace cairn::qcow2
