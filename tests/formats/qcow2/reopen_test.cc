// Images whose node becomes read-only and writable again, gets other options, or is given up and
// taken back.
#include "block/reopen.h"

#include <cerrno>
#include <functional>
#include <string>

#include "block/activation.h"
#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {
namespace {

using block::PermissionSet;

class Qcow2ReopenTest : public ::testing::Test {
 protected:
  void start(testing::Qcow2Shape shape = {.cluster_bits = 12, .size = 64 * kPageCluster}) {
    testing::Qcow2Builder builder(std::move(shape));
    image_.world().add("image", builder.finish());
    const auto opened = image_.open();
    ASSERT_TRUE(opened) << opened.error().message();
  }
  block::Node& node() { return image_.edge().node(); }
  Result<void> use(PermissionSet used) {
    return image_.graph().set_permissions(image_.edge(),
                                          {.used = used, .shared = PermissionSet::all()});
  }
  Result<void> set_read_only(bool read_only) {
    const auto alone = image_.run(image_.graph().alone());
    return image_.run(block::set_read_only(node().shared_from_this(), read_only));
  }
  // Leaves the node without writers first.
  Result<void> freeze() {
    EXPECT_TRUE(use(PermissionSet::kConsistentRead));
    return set_read_only(true);
  }
  Result<void> thaw() {
    auto done = set_read_only(false);
    return done ? use(PermissionSet::kConsistentRead | PermissionSet::kWrite) : done;
  }
  Result<void> reopen(const std::function<void(schema::BlockdevOptionsQcow2&)>& change) {
    schema::BlockdevOptions options = node().opened_with();
    options.node_name = node().name();
    change(std::get<schema::BlockdevOptionsQcow2>(options.branch));
    const auto alone = image_.run(image_.graph().alone());
    return image_.run(block::reopen(image_.graph(), {std::move(options)}));
  }
  Result<void> give_up() {
    const auto alone = image_.run(image_.graph().alone());
    return image_.run(block::inactivate(node().shared_from_this()));
  }
  Result<void> take_back() {
    const auto alone = image_.run(image_.graph().alone());
    return image_.run(block::activate(node().shared_from_this()));
  }
  Result<void> add_bitmap(const std::string& name) {
    return image_.run(
        block::add_bitmap(node(), {.name = name, .granularity = kPageCluster, .persistent = true}));
  }
  block::DirtyBitmap* find(const std::string& name) {
    const auto found = block::get_bitmap(node(), name);
    return found ? *found : nullptr;
  }
  void expect_sound() {
    const auto report = image_.verify();
    EXPECT_TRUE(report.corruptions.empty()) << report.corruptions.front();
    EXPECT_EQ(report.leaks, 0U);
  }

  ImageWorld image_;
};

TEST_F(Qcow2ReopenTest, WhatWasWrittenIsDurableOnceTheNodeIsReadOnly) {
  start({.cluster_bits = 12, .size = 64 * kPageCluster, .lazy_refcounts = true});
  ASSERT_TRUE(image_.write(1, 0, 10 * kPageCluster));
  ASSERT_TRUE(freeze());
  EXPECT_TRUE(node().read_only());
  EXPECT_TRUE(node().child("file")->node().read_only());
  EXPECT_EQ(node().driver().dirty(), false);
  expect_sound();
  image_.world().cut_power();
  static_cast<void>(image_.close());
  image_.world().restore_power();
  ASSERT_TRUE(image_.open());
  EXPECT_TRUE(image_.holds(1, 0, 10 * kPageCluster));
}

TEST_F(Qcow2ReopenTest, AReadOnlyNodeTakesWritesAgainWhenItIsWritable) {
  start();
  ASSERT_TRUE(image_.write(1, 0, kPageCluster));
  ASSERT_TRUE(freeze());
  EXPECT_EQ(image_.write(2, 0, kPageCluster).error().code(), EACCES);
  ASSERT_TRUE(thaw());
  ASSERT_TRUE(image_.write(2, kPageCluster, kPageCluster));
  EXPECT_TRUE(image_.holds(1, 0, kPageCluster));
  EXPECT_TRUE(image_.holds(2, kPageCluster, kPageCluster));
  ASSERT_TRUE(image_.close());
  expect_sound();
}

TEST_F(Qcow2ReopenTest, WritersKeepItWritable) {
  start();
  const auto done = set_read_only(true);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code(), EPERM);
  ASSERT_TRUE(image_.write(1, 0, kPageCluster));
  EXPECT_TRUE(image_.holds(1, 0, kPageCluster));
}

TEST_F(Qcow2ReopenTest, BitmapsAreStoredWithTheImageAndGoOnRecordingLater) {
  start();
  ASSERT_TRUE(add_bitmap("b"));
  ASSERT_TRUE(image_.write(1, 0, kPageCluster));
  ASSERT_TRUE(freeze());
  ASSERT_NE(find("b"), nullptr);
  EXPECT_TRUE(find("b")->read_only());
  EXPECT_EQ(find("b")->count(), kPageCluster);
  image_.world().cut_power();
  image_.world().restore_power();
  ASSERT_TRUE(thaw());
  EXPECT_FALSE(find("b")->read_only());
  ASSERT_TRUE(image_.write(2, 4 * kPageCluster, kPageCluster));
  EXPECT_EQ(find("b")->count(), 2 * kPageCluster);
  ASSERT_TRUE(image_.close());
  expect_sound();
  ASSERT_TRUE(image_.open());
  ASSERT_NE(find("b"), nullptr);
  EXPECT_FALSE(find("b")->inconsistent());
  EXPECT_EQ(find("b")->count(), 2 * kPageCluster);
}

TEST_F(Qcow2ReopenTest, OptionsChangeWhileItIsInUse) {
  start();
  ASSERT_TRUE(add_bitmap("b"));
  ASSERT_TRUE(image_.write(1, 0, 4 * kPageCluster));
  ASSERT_TRUE(reopen([](auto& options) {
    options.lazy_refcounts = true;
    options.l2_cache_entry_size = 512;
  }));
  ASSERT_TRUE(image_.write(2, 8 * kPageCluster, kPageCluster));
  ASSERT_TRUE(image_.flush());
  EXPECT_EQ(node().driver().dirty(), true) << "lazy refcounts are on";
  EXPECT_EQ(find("b")->count(), 5 * kPageCluster);
  ASSERT_TRUE(reopen([](auto& options) {
    options.lazy_refcounts.reset();
    options.l2_cache_entry_size.reset();
  }));
  EXPECT_EQ(node().driver().dirty(), false);
  EXPECT_TRUE(image_.holds(1, 0, 4 * kPageCluster));
  EXPECT_TRUE(image_.holds(2, 8 * kPageCluster, kPageCluster));
  ASSERT_TRUE(image_.close());
  expect_sound();
}

TEST_F(Qcow2ReopenTest, OptionsThatTheDriverRefusesChangeNothing) {
  start();
  ASSERT_TRUE(add_bitmap("b"));
  ASSERT_TRUE(image_.write(1, 0, kPageCluster));
  const block::Driver* const before = &node().driver();
  const auto refused = reopen([](auto& options) { options.l2_cache_entry_size = 100; });
  ASSERT_FALSE(refused);
  EXPECT_EQ(&node().driver(), before);
  ASSERT_TRUE(image_.write(2, kPageCluster, kPageCluster));
  EXPECT_EQ(find("b")->count(), 2 * kPageCluster);
  EXPECT_TRUE(image_.holds(1, 0, kPageCluster));
  ASSERT_TRUE(image_.close());
  expect_sound();
}

// An error at every request on the way, in both directions.
TEST_F(Qcow2ReopenTest, AnErrorOnTheWayLeavesTheNodeAsItWas) {
  start();
  ASSERT_TRUE(add_bitmap("b"));
  testing::WriteNumber number = 1;
  int failures = 0;
  for (const bool read_only : {true, false}) {
    bool done = false;
    for (uint64_t after = 0; !done; ++after) {
      ASSERT_LT(after, 200U);
      if (!node().read_only()) {
        ASSERT_TRUE(image_.write(++number, 0, kPageCluster));
      }
      ASSERT_TRUE(use(PermissionSet::kConsistentRead));
      image_.world().add_fault({.after = after});
      done = set_read_only(read_only).has_value();
      image_.world().clear_faults();
      failures += done ? 0 : 1;
      EXPECT_EQ(node().read_only(), done == read_only);
      EXPECT_TRUE(image_.holds(number, 0, kPageCluster)) << after;
      ASSERT_NE(find("b"), nullptr);
      if (!node().read_only()) {
        ASSERT_TRUE(use(PermissionSet::kConsistentRead | PermissionSet::kWrite));
        ASSERT_TRUE(image_.write(++number, 0, kPageCluster)) << after;
      }
    }
  }
  EXPECT_GT(failures, 5);
  ASSERT_TRUE(image_.close());
  EXPECT_TRUE(image_.verify().corruptions.empty());
}

TEST_F(Qcow2ReopenTest, AnImageThatIsGivenUpIsWhole) {
  start();
  ASSERT_TRUE(add_bitmap("b"));
  ASSERT_TRUE(image_.write(1, 0, kPageCluster));
  EXPECT_EQ(give_up().error().code(), EPERM) << "its user has not agreed";
  image_.edge().allow_inactive();
  ASSERT_TRUE(give_up());
  EXPECT_FALSE(node().active());
  EXPECT_FALSE(node().child("file")->node().active());
  EXPECT_EQ(find("b"), nullptr) << "the image has it now";
  EXPECT_EQ(image_.write(2, 0, kPageCluster).error().code(), EPERM);
  EXPECT_FALSE(image_.holds(1, 0, kPageCluster));
  EXPECT_EQ(image_.flush().error().code(), EPERM);
  EXPECT_EQ(image_.run(image_.edge().create_snapshot({.id = {}, .name = "s"})).error().code(),
            EPERM);
  EXPECT_EQ(add_bitmap("another").error().code(), EPERM);
  expect_sound();
  image_.world().cut_power();
  image_.world().restore_power();
  ASSERT_TRUE(take_back());
  ASSERT_NE(find("b"), nullptr);
  EXPECT_EQ(find("b")->count(), kPageCluster);
  EXPECT_TRUE(image_.holds(1, 0, kPageCluster));
  ASSERT_TRUE(image_.write(2, 0, kPageCluster));
}

TEST_F(Qcow2ReopenTest, AnInactiveImageIsNotWrittenToAtItsEnd) {
  start();
  ASSERT_TRUE(image_.write(1, 0, kPageCluster));
  image_.edge().allow_inactive();
  ASSERT_TRUE(give_up());
  const uint64_t writes = image_.world().submitted(testing::IoKind::kWrite);
  ASSERT_TRUE(image_.close());
  EXPECT_EQ(image_.world().submitted(testing::IoKind::kWrite), writes);
}

TEST_F(Qcow2ReopenTest, WhatCanNotBeTakenBackStaysGivenUp) {
  start();
  ASSERT_TRUE(add_bitmap("b"));
  ASSERT_TRUE(image_.write(1, 0, kPageCluster));
  image_.edge().allow_inactive();
  ASSERT_TRUE(give_up());
  for (uint64_t after = 0;; ++after) {
    ASSERT_LT(after, 50U);
    image_.world().add_fault({.after = after});
    const auto taken = take_back();
    image_.world().clear_faults();
    EXPECT_EQ(node().active(), taken.has_value());
    if (taken) {
      EXPECT_GT(after, 0U);
      break;
    }
    EXPECT_EQ(find("b"), nullptr) << after;
    EXPECT_EQ(image_.write(2, 0, kPageCluster).error().code(), EPERM);
  }
  EXPECT_TRUE(image_.holds(1, 0, kPageCluster));
  ASSERT_NE(find("b"), nullptr);
  EXPECT_EQ(find("b")->count(), kPageCluster);
}

}  // namespace
}  // namespace cairn::qcow2
