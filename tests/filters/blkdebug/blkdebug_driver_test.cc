// blkdebug nodes on simulated files.
#include "filters/blkdebug/blkdebug_driver.h"

#include <gtest/gtest.h>

#include "filters/blkdebug/blkdebug.h"
#include "io/task_group.h"
#include "tests/block/block_test.h"

namespace cairn::filters::blkdebug {
namespace {

class BlkdebugTest : public block::BlockTest {
 protected:
  static constexpr uint64_t kSize = 1 << 20;

  BlkdebugTest() {
    drivers_.add(kBlkdebugDriver);
    world_.add("disk", testing::SparseBytes(kSize));
    options_.image.value = schema::Box<schema::BlockdevOptions>(file_options("disk"));
  }

  schema::BlockdevOptions node() const {
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kBlkdebug;
    options.branch = options_;
    return options;
  }
  block::Edge& attach_blkdebug() { return attach(node(), kWriter, {.discard_unmap = true}); }
  std::string refusal() {
    auto opened = run(graph_.open(node(), {}));
    EXPECT_FALSE(opened);
    return opened ? "" : opened.error().message();
  }

  schema::BlockdevOptionsBlkdebug options_;
};

TEST_F(BlkdebugTest, ShowsWhatIsBelowWhenThereAreNoRules) {
  block::Edge& edge = attach_blkdebug();
  EXPECT_EQ(edge.length(), kSize);
  EXPECT_TRUE(write(edge, 1, 1000, 3000));
  EXPECT_TRUE(holds(edge, 1, 1000, 3000));
  EXPECT_EQ(edge.node().filename(), "blkdebug::disk");
}

TEST_F(BlkdebugTest, LetsTheRequestsOfARuleFail) {
  options_.inject_error.emplace().push_back({.event = schema::BlkdebugEvent::kNone,
                                             .iotype = schema::BlkdebugIOType::kWrite,
                                             .errno_ = ENOSPC,
                                             .once = true});
  block::Edge& edge = attach_blkdebug();
  const Result<void> failed = write(edge, 1, 0, 512);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), ENOSPC);
  EXPECT_TRUE(holds(edge, testing::kZeroes, 0, 512)) << "what failed has changed nothing";
  EXPECT_TRUE(write(edge, 1, 0, 512));
}

TEST_F(BlkdebugTest, HearsOfWritesToItself) {
  options_.inject_error.emplace().push_back(
      {.event = schema::BlkdebugEvent::kPwritevDone, .once = true});
  block::Edge& edge = attach_blkdebug();
  EXPECT_TRUE(write(edge, 1, 0, 512));
  EXPECT_FALSE(write(edge, 2, 0, 512));
}

// A write within one block leaves something on both sides, one at its edge on one side only.
TEST_F(BlkdebugTest, HearsOfWhatAWriteLeavesOfBlocks) {
  struct Case {
    uint64_t offset;
    uint64_t length;
    bool head;
    bool tail;
  };
  using Event = schema::BlkdebugEvent;
  for (const Case& wanted :
       {Case{100, 100, true, true}, Case{4096, 100, false, true}, Case{4000, 96, true, false},
        Case{4000, 8192, true, true}, Case{4096, 4096, false, false}}) {
    for (const Event event : {Event::kPwritevRmwHead, Event::kPwritevRmwTail}) {
      options_.align = 4096;
      options_.inject_error.emplace().push_back(
          {.event = event, .iotype = schema::BlkdebugIOType::kRead});
      block::Edge& edge = attach_blkdebug();
      const bool comes = event == Event::kPwritevRmwHead ? wanted.head : wanted.tail;
      EXPECT_EQ(!write(edge, 1, wanted.offset, wanted.length), comes)
          << schema::to_string(event) << " of " << wanted.length << " at " << wanted.offset;
      EXPECT_TRUE(run(graph_.detach(std::move(edges_.back()))));
      edges_.pop_back();
    }
  }
}

TEST_F(BlkdebugTest, ImposesLimits) {
  options_.align = 4096;
  options_.max_transfer = 8192;
  options_.opt_write_zero = 3 * 4096;
  options_.max_write_zero = 6 * 4096;
  options_.opt_discard = 4096;
  options_.max_discard = 8192;
  block::Edge& edge = attach_blkdebug();
  const block::Limits& limits = edge.node().limits();
  EXPECT_EQ(limits.request_alignment, 4096u);
  EXPECT_EQ(limits.max_transfer, 8192u);
  EXPECT_EQ(limits.zero_alignment, 12288u);
  EXPECT_TRUE(write(edge, 1, 0, 200000));
  EXPECT_TRUE(write(edge, 2, 700, 30));
  EXPECT_TRUE(holds(edge, 2, 700, 30));
  EXPECT_TRUE(holds(edge, 1, 0, 700));
  // A unit that is no power of two.
  EXPECT_TRUE(run(edge.write_zeroes(1000, 100000)));
  EXPECT_TRUE(holds(edge, testing::kZeroes, 1000, 100000));
  EXPECT_TRUE(holds(edge, 1, 730, 270));
  EXPECT_TRUE(holds(edge, 1, 101000, 99000));
  EXPECT_TRUE(run(edge.discard(1000, 100000)));
  EXPECT_TRUE(holds(edge, 1, 101000, 99000));
}

TEST_F(BlkdebugTest, ReachesTheEndOfADiskThatEndsWithinABlock) {
  world_.add("odd", testing::SparseBytes(5 * 512));
  options_.image.value = schema::Box<schema::BlockdevOptions>(file_options("odd"));
  options_.align = 4096;
  block::Edge& edge = attach_blkdebug();
  EXPECT_TRUE(write(edge, 1, 1024, 3 * 512));
  EXPECT_TRUE(holds(edge, 1, 1024, 3 * 512));
  EXPECT_TRUE(run(edge.write_zeroes(2048, 512)));
  EXPECT_TRUE(holds(edge, testing::kZeroes, 2048, 512));
  EXPECT_EQ(file("odd").disk.size(), 5u * 512);
}

TEST_F(BlkdebugTest, RefusesLimitsThatDoNotFit) {
  options_.align = 100;
  EXPECT_EQ(refusal(), "Cannot meet constraints with align 100");
  options_.align = 4096;
  options_.max_transfer = 1000;
  EXPECT_EQ(refusal(), "Cannot meet constraints with max-transfer 1000");
  options_.max_transfer = 0;
  options_.opt_discard = 4096;
  options_.max_discard = 100;
  EXPECT_EQ(refusal(), "Cannot meet constraints with max-discard 100");
}

TEST_F(BlkdebugTest, TakesPermissionsFromOthers) {
  options_.take_child_perms = {schema::BlockPermission::kWrite};
  options_.unshare_child_perms = {schema::BlockPermission::kResize};
  block::Edge& edge = attach(node(), kReader);
  const block::Permissions below = edge.node().child("image")->permissions();
  EXPECT_TRUE(below.used.has(block::PermissionSet::kWrite));
  EXPECT_FALSE(below.shared.has(block::PermissionSet::kResize));
  EXPECT_TRUE(below.shared.has(block::PermissionSet::kWrite));
}

io::Task<void> write_later(block::Edge& edge, bool& done) {
  std::vector<std::byte> data(512);
  static_cast<void>(co_await edge.write(0, data.data(), data.size()));
  done = true;
}

TEST_F(BlkdebugTest, StopsARequestAtABreakpointUntilItIsResumed) {
  block::Edge& edge = attach_blkdebug();
  Breakpoints* breakpoints = find_breakpoints(edge.node());
  ASSERT_NE(breakpoints, nullptr);
  breakpoints->set(block::FaultPoint::kPwritev, "A");
  breakpoints->set(block::FaultPoint::kPwritev, "B");
  ::testing::internal::CaptureStdout();
  io::TaskGroup group;
  bool stopped_done = false;
  group.spawn(write_later(edge, stopped_done));
  EXPECT_TRUE(write(edge, 1, 4096, 512)) << "a breakpoint stops one request";
  EXPECT_FALSE(stopped_done);
  EXPECT_TRUE(breakpoints->has_stopped("A"));
  EXPECT_TRUE(breakpoints->resume("A"));
  EXPECT_FALSE(breakpoints->resume("A"));
  EXPECT_TRUE(write(edge, 1, 4096, 512));
  EXPECT_FALSE(stopped_done) << "it has another tag";
  EXPECT_FALSE(breakpoints->remove("B")) << "none that has not stopped anything";
  run(group.join());
  EXPECT_TRUE(stopped_done);
  EXPECT_EQ(::testing::internal::GetCapturedStdout(),
            "blkdebug: Suspended request 'B'\nblkdebug: Suspended request 'A'\n"
            "blkdebug: Resuming request 'A'\nblkdebug: Resuming request 'B'\n");
}

}  // namespace
}  // namespace cairn::filters::blkdebug
