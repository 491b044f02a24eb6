// What has cost users of other engines their data: tables that move and fail, offsets that are cut
// to 32 bits, snapshot tables that nobody expected.
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "io/task_group.h"
#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {
namespace {

using testing::IoKind;
using testing::Qcow2Builder;
using testing::SparseBytes;

constexpr uint64_t kGiB = uint64_t{1} << 30;

std::vector<std::byte> content(uint64_t number, uint64_t offset, uint64_t length) {
  std::vector<std::byte> data(length);
  testing::fill_pattern(number, offset, data);
  return data;
}

// ---- No space is handed out twice after a table could not be moved.

class Qcow2RelocationTest : public ::testing::TestWithParam<std::optional<IoKind>> {
 protected:
  // Fails the request with this number, and says whether there was one.
  static void arm(ImageWorld& image, uint64_t request, uint64_t times) {
    image.world().add_fault(
        {.kind = GetParam(), .after = request, .times = times, .error = EIO, .torn = true});
  }
};

TEST_P(Qcow2RelocationTest, TheL1TableFailsToMoveAtAnyRequest) {
  constexpr uint64_t kReach = 64 * 512;  // of one L1 entry
  for (uint64_t request = 0;; ++request) {
    ImageWorld image;
    Qcow2Builder builder({.cluster_bits = 9, .size = 2 * kReach});
    image.world().add("image", builder.finish());
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(image.write(1, 0, kReach));
    const uint64_t faults = image.world().faults();
    arm(image, request, 1);
    const Result<void> grown = image.run(image.edge().resize(300 * kReach, {}));
    image.world().clear_faults();
    const bool hit = image.world().faults() != faults;
    EXPECT_TRUE(grown || hit);
    // The engine goes on: new clusters and new tables, then the same again.
    ASSERT_TRUE(image.write(2, kReach, kReach)) << request;
    ASSERT_TRUE(image.flush()) << request;
    ASSERT_TRUE(image.run(image.edge().resize(400 * kReach, {}))) << request;
    ASSERT_TRUE(image.write(3, 200 * kReach, 3 * kReach)) << request;
    EXPECT_TRUE(image.holds(1, 0, kReach)) << request;
    ASSERT_TRUE(image.close()) << request;
    EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{}) << request;
    ASSERT_TRUE(image.open(false));
    EXPECT_TRUE(image.holds(1, 0, kReach)) << request;
    EXPECT_TRUE(image.holds(2, kReach, kReach)) << request;
    EXPECT_TRUE(image.holds(3, 200 * kReach, 3 * kReach)) << request;
    if (!hit) {
      EXPECT_TRUE(request > 0 || GetParam() == IoKind::kZero) << "no request was failed";
      break;
    }
  }
}

const testing::Qcow2Shape kManyBlocks{.cluster_bits = 9, .refcount_order = 6, .size = 4 << 20};
constexpr uint64_t kStep = 16 << 10;

// Writes from the start on; stops where the refcount table would move with the next step. The image
// is left as it is there, and `move` is how far it was written.
SparseBytes before_the_move(uint64_t& move) {
  ImageWorld image;
  Qcow2Builder builder(kManyBlocks);
  image.world().add("image", builder.finish());
  EXPECT_TRUE(image.open());
  const auto clusters = [&] { return image.driver().image().header().refcount_table_clusters; };
  const uint32_t before = clusters();
  SparseBytes last;
  for (move = 0; move < kManyBlocks.size; move += kStep) {
    EXPECT_TRUE(image.flush());
    last = image.file().disk.visible();
    EXPECT_TRUE(image.write(1, move, kStep));
    if (clusters() != before) {
      break;
    }
  }
  return last;
}

TEST_P(Qcow2RelocationTest, TheRefcountTableFailsToMoveAtAnyRequest) {
  uint64_t move = 0;
  const SparseBytes full = before_the_move(move);
  ASSERT_LT(move + 8 * kStep, kManyBlocks.size);
  for (uint64_t request = 0;; ++request) {
    ImageWorld image;
    image.world().add("image", full);
    ASSERT_TRUE(image.open());
    const uint64_t faults = image.world().faults();
    arm(image, request, 1);
    const Result<void> written = image.write(2, move, kStep);
    const Result<void> flushed = image.flush();
    image.world().clear_faults();
    const bool hit = image.world().faults() != faults;
    EXPECT_TRUE((written && flushed) || hit);
    ASSERT_TRUE(image.write(2, move, 4 * kStep)) << request;
    ASSERT_TRUE(image.flush()) << request;
    ASSERT_TRUE(image.write(3, move + 4 * kStep, 4 * kStep)) << request;
    ASSERT_TRUE(image.close()) << request;
    EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{}) << request;
    ASSERT_TRUE(image.open(false));
    EXPECT_TRUE(image.holds(1, 0, move)) << request;
    EXPECT_TRUE(image.holds(2, move, 4 * kStep)) << request;
    EXPECT_TRUE(image.holds(3, move + 4 * kStep, 4 * kStep)) << request;
    if (!hit) {
      EXPECT_TRUE(request > 0 || GetParam() == IoKind::kZero) << "no request was failed";
      break;
    }
  }
}

// The update of the header fails, and so does putting the old one back: no writes any more, and
// whichever header survived describes a sound image.
TEST_P(Qcow2RelocationTest, TwoFailuresInARowCostNothingButTheWrites) {
  constexpr uint64_t kReach = 64 * 512;
  for (uint64_t request = 0;; ++request) {
    ImageWorld image;
    Qcow2Builder builder({.cluster_bits = 9, .size = 2 * kReach});
    image.world().add("image", builder.finish());
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(image.write(1, 0, kReach));
    ASSERT_TRUE(image.flush());
    const uint64_t faults = image.world().faults();
    arm(image, request, 2);
    static_cast<void>(image.run(image.edge().resize(300 * kReach, {})));
    image.world().clear_faults();
    static_cast<void>(image.write(2, kReach, kReach));
    static_cast<void>(image.close());
    EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{}) << request;
    ASSERT_TRUE(image.open(false)) << request;
    EXPECT_TRUE(image.holds(1, 0, kReach)) << request;
    if (image.world().faults() == faults) {
      break;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, Qcow2RelocationTest,
                         ::testing::Values(std::nullopt, IoKind::kWrite, IoKind::kFlush,
                                           IoKind::kZero),
                         [](const auto& kind) -> std::string {
                           return kind.param ? "Of" + std::string(to_string(*kind.param))
                                             : "OfAnyKind";
                         });

// ---- Offsets beyond 4 GiB are not cut to 32 bits.

class Qcow2FarOffsetTest : public Qcow2Test, public ::testing::WithParamInterface<uint32_t> {
 protected:
  static constexpr uint64_t kGuest = 5 * kGiB;
  uint64_t cluster() const { return uint64_t{1} << GetParam(); }
  uint64_t host_of(uint64_t offset) {
    block::Extent extent;
    EXPECT_TRUE(image_.run(image_.driver().map(offset, 512)));
    EXPECT_TRUE(image_.driver().try_map(offset, 512, extent));
    EXPECT_TRUE(extent.host_valid);
    return extent.host_offset;
  }
};

TEST_P(Qcow2FarOffsetTest, ReadsAndWritesWhatLiesThere) {
  Qcow2Builder builder({.cluster_bits = GetParam(), .size = 6 * kGiB});
  builder.data(kGuest - 4 * kGiB, content(1, kGuest - 4 * kGiB, cluster()));
  builder.leave_hole((4 * kGiB + (64 << 20)) >> GetParam());
  builder.data(kGuest, content(2, kGuest, cluster()));
  // The simulation has no worker pool, which decodes larger clusters.
  const bool compressed = cluster() <= 16384;
  std::vector<std::byte> thin(cluster());
  testing::fill_pattern(3, kGuest + cluster(), std::span(thin).first(128));
  if (compressed) {
    ASSERT_TRUE(builder.compressed(kGuest + cluster(), thin));
  } else {
    builder.data(kGuest + cluster(), thin);
  }
  start(builder);
  EXPECT_GT(host_of(kGuest), 4 * kGiB);
  EXPECT_TRUE(image_.holds(2, kGuest, cluster()));
  EXPECT_TRUE(image_.holds(3, kGuest + cluster(), 128));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kGuest + cluster() + 128, 256));
  ASSERT_TRUE(image_.write(4, kGuest, 512));                  // in place
  ASSERT_TRUE(image_.write(5, kGuest + 2 * cluster(), 512));  // a new cluster
  ASSERT_TRUE(image_.write(6, kGuest + cluster(), 64));       // maybe over a compressed one
  EXPECT_GT(host_of(kGuest), 4 * kGiB);
  close_clean();
  open();
  EXPECT_TRUE(image_.holds(1, kGuest - 4 * kGiB, cluster()));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kGuest - 4 * kGiB + cluster(), 2 * cluster()));
  EXPECT_TRUE(image_.holds(4, kGuest, 512));
  EXPECT_TRUE(image_.holds(5, kGuest + 2 * cluster(), 512));
  EXPECT_TRUE(image_.holds(6, kGuest + cluster(), 64));
  ASSERT_TRUE(image_.discard(kGuest, 3 * cluster()));
  EXPECT_TRUE(image_.holds(1, kGuest - 4 * kGiB, cluster()));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kGuest, 3 * cluster()));
  close_clean();
}

TEST_P(Qcow2FarOffsetTest, GrowsBeyondThem) {
  start({.cluster_bits = GetParam(), .size = 1 << 20});
  ASSERT_TRUE(image_.write(1, 0, 1 << 20));
  ASSERT_TRUE(image_.run(image_.edge().resize(9 * kGiB, {})));
  EXPECT_EQ(image_.edge().length(), 9 * kGiB);
  ASSERT_TRUE(image_.write(2, 8 * kGiB, 512));
  EXPECT_TRUE(image_.holds(1, 0, 1 << 20));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 4 * kGiB, 1 << 20));
  EXPECT_TRUE(image_.holds(2, 8 * kGiB, 512));
  close_clean();
}

// Four gigabytes of small clusters would take too long to count.
class Qcow2FarAllocationTest : public Qcow2FarOffsetTest {};

TEST_P(Qcow2FarAllocationTest, GoesOnThere) {
  Qcow2Builder builder({.cluster_bits = GetParam(), .size = 6 * kGiB});
  builder.data(0, content(1, 0, cluster()));
  builder.leak((4 * kGiB + (64 << 20)) >> GetParam());
  builder.data(cluster(), content(1, cluster(), cluster()));
  builder.snapshot("1", "first");
  start(builder);
  ASSERT_TRUE(image_.write(2, cluster(), 512));  // copied, for the snapshot
  ASSERT_TRUE(image_.write(3, kGuest, 512));
  EXPECT_GT(host_of(cluster()), 4 * kGiB);
  EXPECT_GT(host_of(kGuest), 4 * kGiB);
  ASSERT_TRUE(image_.close());
  EXPECT_EQ(image_.verify().corruptions, std::vector<std::string>{});
  open(false);
  EXPECT_TRUE(image_.holds(1, 0, cluster()));
  EXPECT_TRUE(image_.holds(2, cluster(), 512));
  EXPECT_TRUE(image_.holds(1, cluster() + 512, 512));
  EXPECT_TRUE(image_.holds(3, kGuest, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kGuest - 4 * kGiB, cluster()));
}

INSTANTIATE_TEST_SUITE_P(ClusterBits, Qcow2FarAllocationTest, ::testing::Values(16u, 21u));
INSTANTIATE_TEST_SUITE_P(ClusterBits, Qcow2FarOffsetTest, ::testing::Values(9u, 14u, 16u, 21u));

// ---- Snapshot tables with extra data of any size.

class Qcow2SnapshotTableTest : public Qcow2Test {
 protected:
  static constexpr uint64_t kCluster = 4096;
  static constexpr uint64_t kExtraLength = 36;  // where in an entry it stands

  // An image with two snapshots, of which the first has so many bytes of extra data.
  static SparseBytes with_extra(uint32_t version, uint64_t extra) {
    Qcow2Builder builder({.version = version, .cluster_bits = 12, .size = 64 * kCluster});
    builder.data(0, content(1, 0, kCluster));
    const uint64_t own = version >= 3 ? 16 : 0;
    builder.snapshot("1", "first", content(9, 0, extra - own));
    builder.data(kCluster, content(1, kCluster, kCluster));
    builder.snapshot("2", "second");
    return builder.finish();
  }
  static uint64_t table_of(const SparseBytes& bytes) {
    return load_be<uint64_t>(bytes.read(header_offset::kSnapshots + 4, 8).data());
  }
  static SparseBytes with_length(uint32_t length) {
    SparseBytes bytes = with_extra(3, 16);
    std::byte raw[4];
    store_be(raw, length);
    bytes.write(table_of(bytes) + kExtraLength, raw);
    return bytes;
  }
};

TEST_F(Qcow2SnapshotTableTest, ExtraDataOfAnySizeIsReadAndKept) {
  for (const auto& [version, extra] : std::vector<std::pair<uint32_t, uint64_t>>{
           {2, 0}, {2, 8}, {2, 16}, {3, 16}, {3, 24}, {3, 40}, {3, 41}, {3, 1024}}) {
    const SparseBytes bytes = with_extra(version, extra);
    const auto table = bytes.read(table_of(bytes), 2 * kCluster);
    image_.world().add("image", bytes);
    open();
    ASSERT_TRUE(image_.write(2, 0, 2 * kCluster)) << extra;
    ASSERT_TRUE(image_.write(2, 5 * kCluster, kCluster)) << extra;
    EXPECT_EQ(image_.file().disk.visible().read(table_of(bytes), 2 * kCluster), table) << extra;
    close_clean();
    image_.world().remove("image");
  }
}

TEST_F(Qcow2SnapshotTableTest, MoreExtraDataThanAllowedIsRefused) {
  for (const uint32_t length : {1025u, 65536u, 0x7fffffffu, 0xffffffffu}) {
    for (const bool writable : {false, true}) {
      image_.world().add("image", with_length(length));
      const auto opened = image_.open(writable);
      ASSERT_FALSE(opened) << length;
      EXPECT_EQ(opened.error().message(), "Too much extra metadata in snapshot table entry 0");
      image_.world().remove("image");
    }
  }
}

// The next entry begins elsewhere then, in the middle of names and offsets.
TEST_F(Qcow2SnapshotTableTest, LengthsThatMakeNoSenseDoNoHarm) {
  for (const uint32_t length : {0u, 1u, 8u, 17u, 33u, 100u, 999u, 1024u}) {
    image_.world().add("image", with_length(length));
    if (image_.open()) {
      EXPECT_TRUE(image_.holds(1, 0, 2 * kCluster)) << length;
      // The table may seem to lie where there is free space.
      const Result<void> written = image_.write(2, 3 * kCluster, kCluster);
      const testing::WriteNumber now = written ? 2 : testing::kZeroes;
      EXPECT_TRUE(written || written.error().code() == EIO) << length;
      EXPECT_TRUE(image_.holds(now, 3 * kCluster, kCluster)) << length;
      EXPECT_TRUE(image_.holds(1, 0, 2 * kCluster)) << length;
      static_cast<void>(image_.close());
    }
    image_.world().remove("image");
  }
}

// ---- No guest write goes to a table, wherever an entry points.

TEST(Qcow2MisdirectedWrites, ReachNoTable) {
  constexpr uint64_t kCluster = 4096;
  Qcow2Builder builder({.cluster_bits = 12, .size = 2000 * kCluster});
  builder.data(0, content(1, 0, kCluster));
  builder.snapshot("1", "first");
  builder.data(kCluster, content(1, kCluster, kCluster));
  builder.data(600 * kCluster, content(1, 600 * kCluster, kCluster));
  const SparseBytes sound = builder.finish();
  const auto field = [&](uint64_t at) { return load_be<uint64_t>(sound.read(at, 8).data()); };
  const uint64_t l1 = field(header_offset::kL1Size + 4);
  const uint64_t l2 = field(l1) & kEntryOffsetMask;
  const uint64_t snapshots = field(header_offset::kSnapshots + 4);
  const uint64_t refcount_table = field(header_offset::kRefcountTable);
  const std::vector<std::pair<uint64_t, std::string>> places = {
      {l1, "active L1 table"},
      {l2, "active L2 table"},
      {field(l1 + 8) & kEntryOffsetMask, "active L2 table"},
      {refcount_table, "refcount table"},
      {field(refcount_table), "refcount block"},
      {snapshots, "snapshot table"},
      {field(snapshots), "inactive L1 table"},
  };
  for (const auto& [place, what] : places) {
    // The entry itself, and the middle of a run of entries.
    for (const uint64_t before : {uint64_t{0}, uint64_t{1}}) {
      SparseBytes bytes = sound;
      for (uint64_t i = 0; i <= before; ++i) {
        std::byte raw[8];
        store_be(raw, (place - before * kCluster + i * kCluster) | kEntryCopied);
        bytes.write(l2 + (10 + i) * kL2EntryBytes, raw);
      }
      if (before != 0 && place < 2 * kCluster) {
        continue;
      }
      ImageWorld image;
      image.world().add("image", bytes);
      std::vector<block::Corruption> told;
      image.graph().set_on_corruption(
          [&told](const block::Corruption& found) { told.push_back(found); });
      ASSERT_TRUE(image.open());
      const uint64_t target = (10 + before) * kCluster;
      const auto refused = image.write(2, target + 512, 1024);
      ASSERT_FALSE(refused) << what;
      EXPECT_EQ(refused.error().code(), EIO);
      EXPECT_FALSE(image.write(2, 0, 512)) << "no more writes";
      EXPECT_EQ(image.file().disk.visible().read(place, kCluster), bytes.read(place, kCluster))
          << what;
      ASSERT_EQ(told.size(), 1u) << what;
      EXPECT_TRUE(told[0].fatal);
      EXPECT_EQ(told[0].message,
                "Preventing invalid write on metadata (overlaps with " + what + ")");
      EXPECT_EQ(told[0].offset, place + 512);
      EXPECT_EQ(told[0].size, 1024u);
      static_cast<void>(image.close());
      EXPECT_NE(image.file().disk.visible().read(header_offset::kIncompatible, 8)[7] &
                    std::byte{kIncompatibleCorrupt},
                std::byte{0});
    }
  }
}

// An offset of 0 is no place for data: the cluster gets a new one.
TEST(Qcow2MisdirectedWrites, AreKeptFromTheHeader) {
  constexpr uint64_t kCluster = 4096;
  Qcow2Builder builder({.cluster_bits = 12, .size = 100 * kCluster});
  builder.data(0, content(1, 0, kCluster));
  SparseBytes bytes = builder.finish();
  const uint64_t l1 = load_be<uint64_t>(bytes.read(header_offset::kL1Size + 4, 8).data());
  const uint64_t l2 = load_be<uint64_t>(bytes.read(l1, 8).data()) & kEntryOffsetMask;
  std::byte raw[8];
  for (const uint64_t entry : {kEntryCopied, kEntryCopied | kEntryZero}) {
    store_be(raw, entry);
    bytes.write(l2 + 10 * kL2EntryBytes, raw);
    ImageWorld image;
    image.world().add("image", bytes);
    ASSERT_TRUE(image.open());
    const auto header = image.file().disk.visible().read(0, kCluster);
    ASSERT_TRUE(image.write(2, 10 * kCluster, kCluster));
    EXPECT_EQ(image.file().disk.visible().read(0, kCluster), header);
    EXPECT_TRUE(image.holds(2, 10 * kCluster, kCluster));
    ASSERT_TRUE(image.close());
    EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
  }
}

// ---- An L1 entry that changes while it is written out is written once more.

io::Task<void> flush_alone(block::Edge& edge) { static_cast<void>(co_await edge.flush()); }

// A durable write that makes the table anew, while an earlier change of its entry is on its way.
io::Task<Result<void>> write_during_a_flush(block::Edge& edge, const std::vector<std::byte>& data) {
  io::TaskGroup flushes;
  flushes.spawn(flush_alone(edge));
  const block::WriteFlags durable{.fua = true};
  Result<void> written = co_await edge.write(0, data.data(), data.size(), durable);
  co_await flushes.join();
  co_return written;
}

TEST(Qcow2L1Series, ATableMadeWhileItsEntryIsWrittenOutIsNotForgotten) {
  constexpr uint64_t kUnit = 4096;
  const std::vector<std::byte> data = content(2, 0, kUnit);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    bool failed = true;
    for (uint64_t flush = 0; failed; ++flush) {
      ImageWorld image(seed);
      Qcow2Builder builder({.cluster_bits = 12, .size = 64 * kUnit});
      image.world().add("image", builder.finish());
      ASSERT_TRUE(image.open());
      ASSERT_TRUE(image.write(1, 0, 4 * kUnit));
      ASSERT_TRUE(image.flush());
      // The entry is cleared in memory, and its way to the disk ends with an error.
      image.world().add_fault({.kind = IoKind::kFlush, .after = flush});
      failed = !image.run(image.edge().make_empty());
      image.world().clear_faults();
      image.world().set_delays(std::chrono::microseconds(10));
      ASSERT_TRUE(image.run(write_during_a_flush(image.edge(), data)));
      image.world().cut_power();
      static_cast<void>(image.close());
      image.world().restore_power();
      ASSERT_TRUE(image.open(false));
      EXPECT_TRUE(image.holds(2, 0, kUnit)) << "seed " << seed << ", flush " << flush;
      ASSERT_TRUE(image.close());
      ASSERT_FALSE(::testing::Test::HasFailure());
    }
  }
}

}  // namespace
}  // namespace cairn::qcow2
