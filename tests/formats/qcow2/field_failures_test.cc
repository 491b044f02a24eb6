// What has happened to other engines and is no matter of a single table: see docs/durability.md for
// the whole list and the tests of the rest.
#include <array>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "io/task_group.h"
#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {
namespace {

using testing::kZeroes;
using testing::Qcow2Builder;
using testing::SparseBytes;
using testing::WriteNumber;

// ---- A mapping cache that queues share by copy: one queue would go on using what another one has
// ---- replaced.

class TwoQueuesTest : public Qcow2Test {
 protected:
  void attach_queues() {
    for (std::unique_ptr<block::Edge>& queue : queues_) {
      auto edge = image_.graph().attach(image_.edge().shared_node(), "a queue",
                                        image_.edge().permissions());
      ASSERT_TRUE(edge);
      queue = std::move(*edge);
    }
  }
  void detach_queues() {
    for (std::unique_ptr<block::Edge>& queue : queues_) {
      ASSERT_TRUE(image_.run(image_.graph().detach(std::move(queue))));
    }
  }
  bool holds(std::size_t queue, WriteNumber number, uint64_t offset, uint64_t length) {
    std::vector<std::byte> data(length);
    return image_.run(queues_[queue]->read(offset, data.data(), length)) &&
           testing::matching_prefix(number, offset, data) == length;
  }

  std::array<std::unique_ptr<block::Edge>, 2> queues_;
};

TEST_F(TwoQueuesTest, EachSeesAtOnceWhatTheOtherMapsAnew) {
  Qcow2Builder builder({.cluster_bits = 12, .size = 64 * kPageCluster});
  std::vector<std::byte> data(kPageCluster);
  testing::fill_pattern(1, 0, data);
  builder.data(0, data);
  builder.snapshot("1", "first");
  start(builder);
  attach_queues();
  std::vector<std::byte> bytes(2 * kPageCluster);
  for (WriteNumber number = 2; number < 40; ++number) {
    const std::size_t writer = number % 2;
    const std::size_t reader = 1 - writer;
    const uint64_t offset = number % 5 * kPageCluster + number % 3 * 512;
    testing::fill_pattern(number, offset, bytes);
    // The first write copies what the snapshot shares, the next ones go in place or to new space.
    ASSERT_TRUE(image_.run(queues_[writer]->write(offset, bytes.data(), bytes.size())));
    EXPECT_TRUE(holds(reader, number, offset, bytes.size())) << number;
    const uint64_t gone = align_up(offset, kPageCluster);
    if (number % 4 == 0) {
      ASSERT_TRUE(image_.run(queues_[reader]->discard(gone, kPageCluster)));
      EXPECT_TRUE(holds(writer, kZeroes, gone, kPageCluster)) << number;
    } else if (number % 4 == 1) {
      ASSERT_TRUE(image_.run(queues_[reader]->write_zeroes(gone, 512, {})));
      EXPECT_TRUE(holds(writer, kZeroes, gone, 512)) << number;
    }
  }
  ASSERT_TRUE(image_.run(queues_[0]->apply_snapshot("1")));
  EXPECT_TRUE(holds(1, 1, 0, kPageCluster));
  EXPECT_TRUE(holds(1, kZeroes, kPageCluster, 63 * kPageCluster));
  detach_queues();
  close_clean();
}

// ---- A hole-punch that comes late and erases a cluster that somebody else has by now.

class LatePunchTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kClusters = 12;

  static io::Task<void> free_clusters(block::Edge& edge) {
    for (uint64_t i = 0; i < kClusters; ++i) {
      const Result<void> discarded = co_await edge.discard(i * kPageCluster, kPageCluster);
      EXPECT_TRUE(discarded);
      const Result<void> flushed = co_await edge.flush();
      EXPECT_TRUE(flushed);
    }
  }
  static io::Task<void> take_clusters(block::Edge& edge) {
    std::vector<std::byte> data(kPageCluster);
    for (uint64_t i = 0; i < 3 * kClusters; ++i) {
      const uint64_t offset = (kClusters + i) * kPageCluster;
      testing::fill_pattern(2, offset, data);
      const Result<void> written = co_await edge.write(offset, data.data(), data.size());
      EXPECT_TRUE(written);
    }
  }
  // Whether everything that was written last is there.
  static bool race(uint64_t seed, uint64_t& end) {
    ImageWorld image(seed);
    Qcow2Builder builder({.cluster_bits = 12, .size = 64 * kPageCluster});
    std::vector<std::byte> data(kPageCluster);
    for (uint64_t i = 0; i < kClusters; ++i) {
      testing::fill_pattern(1, i * kPageCluster, data);
      builder.data(i * kPageCluster, data);
    }
    image.world().add("image", builder.finish());
    EXPECT_TRUE(image.open());
    // One punch in eight takes far longer than a write.
    image.world().set_delays(std::chrono::microseconds(100), 250);
    io::TaskGroup group;
    group.spawn(free_clusters(image.edge()));
    group.spawn(take_clusters(image.edge()));
    image.run(group.join());
    end = image.file().disk.size();
    const bool holds = image.holds(2, kClusters * kPageCluster, 3 * kClusters * kPageCluster) &&
                       image.holds(kZeroes, 0, kClusters * kPageCluster);
    EXPECT_GT(image.world().submitted(testing::IoKind::kDiscard), 0u);
    EXPECT_TRUE(image.close());
    EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
    return holds;
  }
};

TEST_F(LatePunchTest, ErasesNoClusterThatWasHandedOutAgain) {
  bool reused = false;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    uint64_t end = 0;
    ASSERT_TRUE(race(seed, end)) << "seed " << seed;
    // Header, tables and data of both, had nothing been used again.
    reused = reused || end < (4 + 4 * kClusters) * kPageCluster;
  }
  EXPECT_TRUE(reused) << "the test did not get to what it is about";
}

// ---- A descriptor that is cut short when it is written anew: here the header.

TEST(RewrittenHeader, KeepsEveryExtensionAndTheWholeName) {
  constexpr uint32_t kUnknown = 0x5eedf00d;
  constexpr uint64_t kHeaderEnd = 104;
  for (const uint64_t length : {8, 40, 700}) {
    Qcow2Builder builder({.cluster_bits = 12, .size = 64 * kPageCluster});
    SparseBytes bytes = builder.finish();
    std::vector<std::byte> extension(8 + align_up(length, 8));
    testing::fill_pattern(7, 0, extension);
    store_be(extension.data(), kUnknown);
    store_be(extension.data() + 4, static_cast<uint32_t>(length));
    const uint64_t at = load_be<uint32_t>(bytes.read(100, 4).data());
    ASSERT_GE(at, kHeaderEnd);
    bytes.write(at, extension);
    bytes.write(at + extension.size(), std::vector<std::byte>(8));
    ImageWorld image;
    image.options().backing = schema::BlockdevRefOrNull{.value = schema::Null{}};
    image.world().add("image", bytes);
    for (const uint64_t name : {1, 900, 1023, 3, 0, 500}) {
      ASSERT_TRUE(image.open());
      const std::string wanted(name, 'n');
      ASSERT_TRUE(image.run(image.edge().change_backing(wanted, "raw")));
      ASSERT_TRUE(image.write(name + 1, 0, 64 * kPageCluster));
      ASSERT_TRUE(image.close());
      EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
      ASSERT_TRUE(image.open(false));
      const Header& header = image.driver().image().header();
      EXPECT_EQ(header.backing_file, wanted);
      EXPECT_EQ(header.backing_format(), name == 0 ? "" : "raw");
      const HeaderExtension* kept = header.extension(static_cast<ExtensionType>(kUnknown));
      ASSERT_NE(kept, nullptr) << length << " " << name;
      EXPECT_TRUE(std::equal(kept->data.begin(), kept->data.end(), extension.begin() + 8));
      EXPECT_EQ(kept->data.size(), length);
      EXPECT_TRUE(image.holds(name + 1, 0, 64 * kPageCluster));
      ASSERT_TRUE(image.close());
    }
  }
}

// ---- Zeroes for a part of what can be zeroed by itself, where the file has ended already.

TEST(ZeroesBeyondTheEndOfTheFile, OfAPartOfAZeroingUnit) {
  for (const bool subclusters : {false, true}) {
    const uint32_t bits = subclusters ? 16 : 12;
    const uint64_t cluster = uint64_t{1} << bits;
    const uint64_t unit = subclusters ? cluster / 32 : cluster;
    Qcow2Builder builder({.cluster_bits = bits, .size = 8 * cluster, .extended_l2 = subclusters});
    ImageWorld image;
    image.world().add("image", builder.finish());
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(
        image.run(image.driver().preallocate(0, 2 * cluster, block::Preallocation::kMetadata)));
    ASSERT_TRUE(image.flush());
    ASSERT_TRUE(image.close());
    // The space of the clusters has never been written: the file may end before it.
    SparseBytes bytes = image.file().disk.visible();
    ASSERT_GE(bytes.size(), 2 * cluster);
    bytes.resize(bytes.size() - 2 * cluster);
    image.world().remove("image");
    image.world().add("image", bytes);
    for (const bool may_unmap : {false, true}) {
      for (const uint64_t offset : {uint64_t{0}, unit / 4, unit + 512}) {
        ASSERT_TRUE(image.open());
        const auto zeroed = image.zero(offset, unit / 2, {.may_unmap = may_unmap});
        ASSERT_TRUE(zeroed) << zeroed.error().message();
        EXPECT_TRUE(image.holds(kZeroes, 0, 8 * cluster));
        ASSERT_TRUE(image.close());
        EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
        EXPECT_EQ(image.world().violations(), std::vector<std::string>{});
      }
    }
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(image.write(3, 100, unit));
    ASSERT_TRUE(image.zero(200, 100));
    EXPECT_TRUE(image.holds(3, 100, 100));
    EXPECT_TRUE(image.holds(kZeroes, 200, 100));
    EXPECT_TRUE(image.holds(3, 300, unit - 200));
    ASSERT_TRUE(image.close());
  }
}

}  // namespace
}  // namespace cairn::qcow2
