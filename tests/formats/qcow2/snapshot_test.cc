// Internal snapshots: what they hold, in every state that errors and power cuts can leave.
#include <algorithm>
#include <functional>

#include <gtest/gtest.h>

#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {
namespace {

using testing::FaultRule;
using testing::kZeroes;
using testing::Qcow2Builder;
using testing::WriteNumber;

Result<void> create(ImageWorld& image, std::string name) {
  return image.run(image.edge().create_snapshot({.id = {}, .name = std::move(name)}));
}
Result<void> apply(ImageWorld& image, std::string id) {
  return image.run(image.edge().apply_snapshot(std::move(id)));
}
Result<void> remove(ImageWorld& image, std::string id) {
  return image.run(image.edge().delete_snapshot(std::move(id)));
}

// "1:one 2:two": what the image says that it has.
std::string list(ImageWorld& image) {
  const auto snapshots = image.edge().snapshots();
  std::string text;
  for (const block::Snapshot& snapshot : *snapshots) {
    text += fmt::format("{}{}:{}", text.empty() ? "" : " ", snapshot.id, snapshot.name);
  }
  return text;
}

void expect_sound(ImageWorld& image, uint64_t at) {
  const auto report = image.verify();
  EXPECT_EQ(report.corruptions, std::vector<std::string>{}) << "at request " << at;
}

class SnapshotTest : public Qcow2Test {};

TEST_F(SnapshotTest, EachHoldsWhatTheDiskHeldThen) {
  start({.cluster_bits = 9, .size = 200 * 512});
  for (WriteNumber number = 1; number <= 5; ++number) {
    // Overlapping, so that some clusters belong to one state and some to several.
    ASSERT_TRUE(image_.write(number, number * 7 * 512, 60 * 512));
    const auto created = create(image_, std::to_string(number));
    ASSERT_TRUE(created) << created.error().message();
  }
  ASSERT_TRUE(image_.write(9, 0, 200 * 512));
  for (WriteNumber number = 1; number <= 5; ++number) {
    ASSERT_TRUE(apply(image_, std::to_string(number)));
    EXPECT_TRUE(image_.holds(number, number * 7 * 512, 60 * 512)) << number;
    EXPECT_TRUE(image_.holds(kZeroes, (number * 7 + 60) * 512, 512)) << number;
  }
  close_clean();
  open();
  EXPECT_EQ(list(image_), "1:1 2:2 3:3 4:4 5:5");
  ASSERT_TRUE(remove(image_, "3"));
  ASSERT_TRUE(remove(image_, "5"));
  ASSERT_TRUE(apply(image_, "2"));
  EXPECT_TRUE(image_.holds(2, 14 * 512, 60 * 512));
  EXPECT_TRUE(image_.holds(1, 7 * 512, 7 * 512));
  EXPECT_EQ(list(image_), "1:1 2:2 4:4");
  for (const char* id : {"1", "2", "4"}) {
    ASSERT_TRUE(remove(image_, id));
  }
  EXPECT_TRUE(image_.holds(2, 14 * 512, 60 * 512));
  close_clean();
}

TEST_F(SnapshotTest, WritesAfterDeletingTheLastOneGoInPlaceAgain) {
  start({.size = 8 << 20});
  ASSERT_TRUE(image_.write(1, 0, 1 << 20));
  block::Extent extent;
  ASSERT_TRUE(create(image_, "s"));
  ASSERT_TRUE(image_.holds(1, 0, 1 << 20));
  ASSERT_TRUE(image_.driver().try_map(0, 65536, extent));
  EXPECT_FALSE(extent.in_place);
  ASSERT_TRUE(remove(image_, "1"));
  ASSERT_TRUE(image_.holds(1, 0, 1 << 20));
  ASSERT_TRUE(image_.driver().try_map(0, 65536, extent));
  EXPECT_TRUE(extent.in_place);
  close_clean();
}

TEST_F(SnapshotTest, ApplyingBringsBackTheSize) {
  start({.cluster_bits = 12, .size = 1 << 20});
  ASSERT_TRUE(image_.write(1, 0, 1 << 20));
  ASSERT_TRUE(create(image_, "small"));
  ASSERT_TRUE(image_.run(image_.edge().resize(64 << 20, {})));
  ASSERT_TRUE(image_.write(2, 63 << 20, 1 << 20));
  ASSERT_TRUE(create(image_, "large"));
  ASSERT_TRUE(apply(image_, "1"));
  EXPECT_EQ(image_.edge().length(), 1u << 20);
  EXPECT_TRUE(image_.holds(1, 0, 1 << 20));
  ASSERT_TRUE(apply(image_, "2"));
  EXPECT_EQ(image_.edge().length(), 64u << 20);
  EXPECT_TRUE(image_.holds(2, 63 << 20, 1 << 20));
  close_clean();
}

TEST_F(SnapshotTest, CompressedAndZeroedClustersAreKept) {
  constexpr uint64_t kSmallCluster = 4096;
  Qcow2Builder builder({.cluster_bits = 12, .size = 64 * kSmallCluster});
  std::vector<std::byte> half(kSmallCluster);
  testing::fill_pattern(1, 0, std::span(half).first(512));
  for (uint64_t i = 0; i < 8; ++i) {
    std::ranges::fill(half, std::byte{0});
    testing::fill_pattern(1, i * kSmallCluster, std::span(half).first(512));
    ASSERT_TRUE(builder.compressed(i * kSmallCluster, half));
  }
  builder.zero(10 * kSmallCluster, true);
  start(builder);
  ASSERT_TRUE(create(image_, "s"));
  ASSERT_TRUE(image_.write(2, 0, 32 * kSmallCluster));
  ASSERT_TRUE(create(image_, "t"));
  ASSERT_TRUE(apply(image_, "1"));
  for (uint64_t i = 0; i < 8; ++i) {
    EXPECT_TRUE(image_.holds(1, i * kSmallCluster, 512));
  }
  EXPECT_TRUE(image_.holds(kZeroes, 10 * kSmallCluster, kSmallCluster));
  ASSERT_TRUE(remove(image_, "1"));
  ASSERT_TRUE(remove(image_, "2"));
  EXPECT_TRUE(image_.holds(1, 7 * kSmallCluster, 512));
  close_clean();
}

TEST_F(SnapshotTest, NamesAndIdsNeedNotBeUnique) {
  start({.size = 1 << 20});
  for (const char* name : {"same", "same", "1", ""}) {
    ASSERT_TRUE(create(image_, name));
  }
  EXPECT_EQ(list(image_), "1:same 2:same 3:1 4:");
  const auto snapshots = *image_.edge().snapshots();
  EXPECT_EQ(block::find_snapshot(snapshots, "1")->id, "1");
  EXPECT_EQ(block::find_snapshot_by_name(snapshots, "1")->id, "3");
  EXPECT_EQ(block::find_snapshot(snapshots, "5"), nullptr);
  EXPECT_EQ(remove(image_, "9").error().code(), ENOENT);
  EXPECT_EQ(apply(image_, "9").error().code(), ENOENT);
  close_clean();
}

TEST_F(SnapshotTest, UnknownExtraDataAndTheStateOfAMachineAreKept) {
  start({.size = 1 << 20});
  const block::Snapshot one{.id = {},
                            .name = "one",
                            .vm_state_size = uint64_t{5} << 32,
                            .date_seconds = 1000,
                            .date_nanoseconds = 7,
                            .vm_clock_nanoseconds = 123456789012,
                            .icount = 99};
  ASSERT_TRUE(image_.run(image_.edge().create_snapshot(one)));
  ASSERT_TRUE(image_.close());
  // Makes room for 16 bytes that nobody knows, between the known extra data and the names.
  testing::SparseBytes content = image_.file().disk.visible();
  std::vector<std::byte> head = content.read(0, 104);
  uint64_t table = 0;
  for (int i = 0; i < 8; ++i) {
    table = table << 8 | static_cast<uint64_t>(head[64 + i]);
  }
  std::vector<std::byte> entry = content.read(table, 72);
  ASSERT_EQ(entry[39], std::byte{24});
  entry[39] = std::byte{40};
  std::vector<std::byte> unknown(16, std::byte{0xab});
  entry.insert(entry.begin() + 64, unknown.begin(), unknown.end());
  content.write(table, entry);
  image_.world().remove("image");
  image_.world().add("image", std::move(content));
  open();
  ASSERT_TRUE(create(image_, "two"));
  ASSERT_TRUE(remove(image_, "2"));
  close_clean();
  open();
  const SnapshotEntry& kept = image_.driver().snapshot_table().entries().front();
  EXPECT_EQ(kept.unknown, unknown);
  EXPECT_EQ(kept.name, "one");
  EXPECT_EQ(kept.vm_state_size, one.vm_state_size);
  EXPECT_EQ(kept.date_seconds, 1000u);
  EXPECT_EQ(kept.date_nanoseconds, 7u);
  EXPECT_EQ(kept.vm_clock_nanoseconds, one.vm_clock_nanoseconds);
  EXPECT_EQ(kept.icount, 99u);
  close_clean();
}

TEST_F(SnapshotTest, ACountThatIsFullRefusesAndChangesNothing) {
  for (const uint32_t order : {0u, 1u}) {
    Qcow2Builder builder({.cluster_bits = 12, .refcount_order = order, .size = 1 << 20});
    start(builder);
    ASSERT_TRUE(image_.write(1, 0, 1 << 20));
    const int most = order == 0 ? 0 : 2;
    for (int i = 0; i < most; ++i) {
      ASSERT_TRUE(create(image_, "s"));
    }
    const auto refused = create(image_, "one too many");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), EINVAL);
    EXPECT_EQ(image_.edge().snapshots()->size(), static_cast<std::size_t>(most));
    EXPECT_TRUE(image_.holds(1, 0, 1 << 20));
    close_clean();
    image_.world().remove("image");
  }
}

TEST_F(SnapshotTest, DeletingFreesWhatItAloneUsed) {
  start({.cluster_bits = 12, .size = 1 << 20});
  ASSERT_TRUE(image_.write(1, 0, 1 << 20));
  ASSERT_TRUE(create(image_, "s"));
  ASSERT_TRUE(image_.write(2, 0, 1 << 20));
  ASSERT_TRUE(image_.flush());
  const uint64_t size = image_.file().disk.size();
  ASSERT_TRUE(remove(image_, "1"));
  // What comes back takes the room of what went.
  ASSERT_TRUE(create(image_, "t"));
  ASSERT_TRUE(image_.write(3, 0, 1 << 20));
  ASSERT_TRUE(image_.flush());
  EXPECT_LE(image_.file().disk.size(), size + 64 * 4096);
  EXPECT_TRUE(image_.holds(3, 0, 1 << 20));
  close_clean();
}

// An image with two snapshots, and a disk that shares something with each of them.
constexpr uint64_t kSharedDisk = 150 * kTinyCluster;

void prepare(ImageWorld& image, uint32_t refcount_order, uint32_t version) {
  Qcow2Builder builder({.version = version,
                        .cluster_bits = 9,
                        .refcount_order = refcount_order,
                        .size = kSharedDisk});
  image.world().add("image", builder.finish());
  ASSERT_TRUE(image.open());
  ASSERT_TRUE(image.write(1, 0, kSharedDisk));
  ASSERT_TRUE(create(image, "first"));
  ASSERT_TRUE(image.write(2, 0, kSharedDisk / 2));
  ASSERT_TRUE(create(image, "second"));
  ASSERT_TRUE(image.write(3, 0, kSharedDisk / 4));
  ASSERT_TRUE(image.flush());
}

// The contents of the disk and of both snapshots.
void expect_contents(ImageWorld& image, bool applied, uint64_t at) {
  if (applied) {
    EXPECT_TRUE(image.holds(1, 0, kSharedDisk)) << at;
  } else {
    EXPECT_TRUE(image.holds(3, 0, kSharedDisk / 4)) << at;
    EXPECT_TRUE(image.holds(2, kSharedDisk / 4, kSharedDisk / 2 - kSharedDisk / 4)) << at;
    EXPECT_TRUE(image.holds(1, kSharedDisk / 2, kSharedDisk / 2)) << at;
  }
  const std::string names = list(image);
  if (names.starts_with("1:first")) {
    ASSERT_TRUE(apply(image, "1")) << at;
    EXPECT_TRUE(image.holds(1, 0, kSharedDisk)) << at;
  }
  ASSERT_NE(names.find("2:second"), std::string::npos) << at;
  ASSERT_TRUE(apply(image, "2")) << at;
  EXPECT_TRUE(image.holds(2, 0, kSharedDisk / 2)) << at;
  EXPECT_TRUE(image.holds(1, kSharedDisk / 2, kSharedDisk / 2)) << at;
  if (names.ends_with("3:third")) {
    ASSERT_TRUE(apply(image, "3")) << at;
    EXPECT_TRUE(image.holds(3, 0, kSharedDisk / 4)) << at;
    EXPECT_TRUE(image.holds(1, kSharedDisk / 2, kSharedDisk / 2)) << at;
  }
}

struct Operation {
  const char* name;
  std::function<Result<void>(ImageWorld&)> run;
  const char* before;
  const char* after;
  bool applies = false;
};

const std::vector<Operation>& operations() {
  static const std::vector<Operation> kAll = {
      {"create", [](ImageWorld& image) { return create(image, "third"); }, "1:first 2:second",
       "1:first 2:second 3:third"},
      {"apply", [](ImageWorld& image) { return apply(image, "1"); }, "1:first 2:second",
       "1:first 2:second", true},
      {"delete", [](ImageWorld& image) { return remove(image, "1"); }, "1:first 2:second",
       "2:second"},
  };
  return kAll;
}

TEST(SnapshotSeries, AFailureAtAnyRequestChangesNothing) {
  for (const Operation& operation : operations()) {
    for (const int error : {EIO, ENOSPC}) {
      bool done = false;
      for (uint64_t request = 0; !done; ++request) {
        ImageWorld image;
        prepare(image, 4, 3);
        image.world().add_fault({.after = request, .error = error, .torn = request % 2 == 1});
        const Result<void> result = operation.run(image);
        done = image.world().faults() == 0;
        image.world().clear_faults();
        EXPECT_EQ(list(image), result ? operation.after : operation.before)
            << operation.name << " " << request;
        // It goes on as if nothing had happened.
        ASSERT_TRUE(image.write(3, 0, result && operation.applies ? 0 : kSharedDisk / 4));
        const auto closed = image.close();
        ASSERT_TRUE(closed) << closed.error().message();
        expect_sound(image, request);
        ASSERT_TRUE(image.open());
        expect_contents(image, result && operation.applies, request);
        ASSERT_TRUE(image.close());
        expect_sound(image, request);
        if (::testing::Test::HasFailure()) {
          FAIL() << operation.name << ", error " << error << " at request " << request;
        }
      }
    }
  }
}

TEST(SnapshotSeries, APowerCutAtAnyRequestLeavesTheOldStateOrTheNew) {
  for (const Operation& operation : operations()) {
    for (const uint32_t version : {2u, 3u}) {
      bool done = false;
      for (uint64_t request = 1; !done; ++request) {
        ImageWorld image(request * 31 + version);
        prepare(image, 4, version);
        image.world().cut_power_at(request);
        const Result<void> result = operation.run(image);
        done = image.world().powered();
        const Result<void> closed = image.close();
        static_cast<void>(closed);
        if (image.world().powered()) {
          image.world().cut_power();
        }
        image.world().restore_power();
        expect_sound(image, request);
        ASSERT_TRUE(image.open());
        const std::string names = list(image);
        if (result) {
          EXPECT_EQ(names, operation.after);
        }
        EXPECT_TRUE(names == operation.before || names == operation.after) << names;
        const bool applied = operation.applies && image.holds(1, 0, kSharedDisk);
        EXPECT_TRUE(!result || applied == operation.applies);
        expect_contents(image, applied, request);
        ASSERT_TRUE(image.close());
        expect_sound(image, request);
        if (::testing::Test::HasFailure()) {
          FAIL() << operation.name << ", version " << version << ", cut at request " << request;
        }
      }
    }
  }
}

TEST(SnapshotSeries, EveryWidthOfCountsServes) {
  for (const uint32_t order : {2u, 3u, 4u, 5u, 6u}) {
    ImageWorld image;
    prepare(image, order, 3);
    ASSERT_TRUE(create(image, "third"));
    ASSERT_TRUE(remove(image, "1"));
    expect_contents(image, false, order);
    ASSERT_TRUE(image.close());
    expect_sound(image, order);
    EXPECT_EQ(image.verify().leaks, 0u);
  }
}

// Small caches have pages written out, and read again, in the middle of an operation.
TEST(SnapshotSeries, CachesMayBeSmallerThanWhatChanges) {
  ImageWorld image;
  Qcow2Builder builder({.cluster_bits = 9, .size = 4000 * kTinyCluster});
  image.world().add("image", builder.finish());
  image.options().l2_cache_size = 2048;
  image.options().refcount_cache_size = 1024;
  ASSERT_TRUE(image.open());
  ASSERT_TRUE(image.write(1, 0, 4000 * kTinyCluster));
  ASSERT_TRUE(create(image, "s"));
  ASSERT_TRUE(image.write(2, 1000 * kTinyCluster, 1000 * kTinyCluster));
  ASSERT_TRUE(create(image, "t"));
  ASSERT_TRUE(apply(image, "1"));
  EXPECT_TRUE(image.holds(1, 0, 4000 * kTinyCluster));
  ASSERT_TRUE(remove(image, "1"));
  ASSERT_TRUE(apply(image, "2"));
  EXPECT_TRUE(image.holds(2, 1000 * kTinyCluster, 1000 * kTinyCluster));
  EXPECT_TRUE(image.holds(1, 2000 * kTinyCluster, 2000 * kTinyCluster));
  ASSERT_TRUE(image.close());
  expect_sound(image, 0);
  EXPECT_EQ(image.verify().leaks, 0u);
}

}  // namespace
}  // namespace cairn::qcow2
