// Mirrors: both sides alike, whatever is written meanwhile, and the way over.
#include <cerrno>

#include "io/task_group.h"
#include "tests/jobs/copy_job_test.h"
#include "tests/support/random.h"

namespace cairn::jobs {
namespace {

using schema::JobStatus;
using schema::MirrorSyncMode;
using testing::IoKind;

using MirrorJobTest = CopyJobTest;

TEST_F(MirrorJobTest, FollowsWritesAndMovesTheUsersAtTheEnd) {
  block::Edge& guest = add_source();
  add_target();
  ASSERT_TRUE(start(mirror()));
  wait_for(JobStatus::kReady);
  EXPECT_EQ(job().done(), job().total());
  ASSERT_TRUE(write(guest, 2, kGranule + 5, 3 * kGranule));
  ASSERT_TRUE(run(guest.write_zeroes(9 * kGranule, kGranule)));
  ASSERT_TRUE(list_.complete("j"));
  EXPECT_EQ(finish(), "");
  EXPECT_EQ(&guest.node(), graph_.find("target").get());
  ASSERT_TRUE(write(guest, 3, 0, 100)) << "goes to the target alone";
  EXPECT_TRUE(holds(guest, 2, kGranule + 5, 3 * kGranule));
  EXPECT_TRUE(holds(guest, testing::kZeroes, 9 * kGranule, kGranule));
  EXPECT_TRUE(holds(guest, 3, 0, 100));
}

TEST_F(MirrorJobTest, CancelledSoftlyItLeavesAGoodCopy) {
  block::Edge& guest = add_source();
  add_target();
  ASSERT_TRUE(start(mirror()));
  wait_for(JobStatus::kReady);
  ASSERT_TRUE(write(guest, 2, 0, 10));
  ASSERT_TRUE(list_.cancel("j", false));
  EXPECT_EQ(finish(), "");
  EXPECT_EQ(&guest.node(), graph_.find("source").get());
  EXPECT_EQ(content("target"), content("source"));
}

TEST_F(MirrorJobTest, OneThatIsOverCanStillBeAskedAbout) {
  add_source();
  add_target();
  ASSERT_TRUE(start(mirror()));
  wait_for(JobStatus::kReady);
  EXPECT_TRUE(job().busy() || job().ready());
  ASSERT_TRUE(list_.complete("j"));
  run(until(JobStatus::kConcluded));
  EXPECT_FALSE(job().actively_synced()) << "its filter is gone";
  EXPECT_FALSE(job().busy());
  EXPECT_EQ(finish(), "");
}

TEST_F(MirrorJobTest, ANegativeSpeedIsRefusedWhenTheJobIsThereAlready) {
  add_source();
  add_target();
  std::vector<std::string> states;
  list_.set_events({.status = [&states](const Job& job) {
    states.emplace_back(schema::to_string(job.status()));
  }});
  MirrorSettings wanted = mirror();
  wanted.copying.speed = -1;
  const Result<void> started = start(std::move(wanted));
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().message(), "Parameter 'speed' expects a non-negative value");
  EXPECT_EQ(states, (std::vector<std::string>{"created", "null"}));
  EXPECT_EQ(graph_.nodes().size(), 2U);
  EXPECT_TRUE(list_.check_id("j")) << "the name is free again";
}

TEST_F(MirrorJobTest, CancelledByForceItIsCancelled) {
  add_source();
  add_target();
  ASSERT_TRUE(start(mirror()));
  wait_for(JobStatus::kReady);
  ASSERT_TRUE(list_.cancel("j"));
  EXPECT_EQ(finish(), "Operation canceled");
  EXPECT_EQ(graph_.nodes().size(), 2U);
}

TEST_F(MirrorJobTest, WritesToBothSidesAreOnBothWhenTheyAreAnswered) {
  block::Edge& guest = add_source();
  add_target();
  MirrorSettings wanted = mirror();
  wanted.write_both = true;
  ASSERT_TRUE(start(std::move(wanted)));
  wait_for(JobStatus::kReady);
  ASSERT_TRUE(write(guest, 2, 100, 3 * kGranule));
  EXPECT_TRUE(job().actively_synced());
  std::vector<std::byte> data(3 * kGranule);
  file("target").disk.visible().read(100, data);
  EXPECT_EQ(data, pattern(2, 100, 3 * kGranule));
  ASSERT_TRUE(list_.cancel("j", false));
  EXPECT_EQ(finish(), "");
}

TEST_F(MirrorJobTest, TheCopyModeCanBeChangedOneWay) {
  add_source();
  add_target();
  ASSERT_TRUE(start(mirror()));
  wait_for(JobStatus::kReady);
  EXPECT_FALSE(job().actively_synced());
  schema::BlockJobChangeOptions change;
  change.id = "j";
  change.type = schema::JobType::kMirror;
  change.branch =
      schema::BlockJobChangeOptionsMirror{.copy_mode = schema::MirrorCopyMode::kWriteBlocking};
  ASSERT_TRUE(list_.change(change));
  EXPECT_TRUE(job().actively_synced());
  change.branch =
      schema::BlockJobChangeOptionsMirror{.copy_mode = schema::MirrorCopyMode::kBackground};
  const Result<void> back = list_.change(change);
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().message(), "Change to copy mode 'background' is not implemented");
  ASSERT_TRUE(list_.cancel("j"));
  finish();
}

TEST_F(MirrorJobTest, ATargetThatIsZeroGetsNoZeroes) {
  add_source();
  add_target();
  // Block status does not tell that it is.
  block::Edge& filler = attach(with_name(file_options("target"), "filler"));
  ASSERT_TRUE(run(filler.write_zeroes(0, kSize)));
  const uint64_t zeroed = world_.submitted(IoKind::kZero);
  MirrorSettings wanted = mirror();
  wanted.target_is_zero = true;
  ASSERT_TRUE(start(std::move(wanted)));
  wait_for(JobStatus::kReady);
  EXPECT_EQ(world_.submitted(IoKind::kZero), zeroed);
  ASSERT_TRUE(list_.cancel("j"));
  finish();
}

TEST_F(MirrorJobTest, WithNoneOnlyWhatIsWrittenIsCopied) {
  block::Edge& guest = add_source();
  add_target();
  MirrorSettings wanted = mirror();
  wanted.sync = MirrorSyncMode::kNone;
  ASSERT_TRUE(start(std::move(wanted)));
  wait_for(JobStatus::kReady);
  EXPECT_EQ(job().total(), 0U);
  ASSERT_TRUE(write(guest, 2, 4 * kGranule, kGranule));
  ASSERT_TRUE(list_.cancel("j", false));
  EXPECT_EQ(finish(), "");
  std::vector<std::byte> expected(kSize);
  const std::vector<std::byte> written = pattern(2, 4 * kGranule, kGranule);
  std::copy(written.begin(), written.end(), expected.begin() + 4 * kGranule);
  EXPECT_EQ(content("target"), expected);
}

TEST_F(MirrorJobTest, OtherSizesAreAFailureOfTheJob) {
  add_source();
  add_target(kSize / 2);
  ASSERT_TRUE(start(mirror()));
  EXPECT_EQ(finish(), "Source and target image have different sizes");
}

TEST_F(MirrorJobTest, NobodyElseUsesTheTarget) {
  add_source();
  add_target();
  ASSERT_TRUE(start(mirror()));
  EXPECT_FALSE(graph_.attach(graph_.find("target"), "another", kReader));
  ASSERT_TRUE(list_.cancel("j"));
  finish();
}

TEST_F(MirrorJobTest, AWriteThatTheTargetDidNotTakeIsCopiedLater) {
  block::Edge& guest = add_source();
  add_target();
  MirrorSettings wanted = mirror();
  wanted.write_both = true;
  wanted.copying.on_target_error = schema::BlockdevOnError::kIgnore;
  ASSERT_TRUE(start(std::move(wanted)));
  wait_for(JobStatus::kReady);
  world_.add_fault({.kind = IoKind::kWrite, .file = "target"});
  ASSERT_TRUE(write(guest, 2, 100, 100)) << "the guest does not suffer";
  ASSERT_TRUE(list_.complete("j"));
  EXPECT_EQ(finish(), "");
  EXPECT_TRUE(holds(guest, 2, 100, 100));
  EXPECT_EQ(errors_, std::vector<std::string>{"write ignore"});
}

TEST_F(MirrorJobTest, WhatTheUsersFindAtTheTargetIsDurable) {
  block::Edge& guest = add_source();
  add_target();
  ASSERT_TRUE(start(mirror()));
  wait_for(JobStatus::kReady);
  ASSERT_TRUE(write(guest, 2, kGranule, 2 * kGranule));
  ASSERT_TRUE(run(guest.flush()));
  ASSERT_TRUE(list_.complete("j"));
  EXPECT_EQ(finish(), "");
  world_.cut_power();
  world_.restore_power();
  EXPECT_TRUE(holds(guest, 1, 0, kGranule));
  EXPECT_TRUE(holds(guest, 2, kGranule, 2 * kGranule));
}

TEST_F(MirrorJobTest, AFlushReachesWhatWasWrittenBeforeTheFilterCame) {
  block::Edge& guest = add_source();
  add_target();
  ASSERT_TRUE(write(guest, 2, kGranule, kGranule));
  MirrorSettings wanted = mirror();
  wanted.sync = MirrorSyncMode::kNone;
  ASSERT_TRUE(start(std::move(wanted)));
  wait_for(JobStatus::kReady);
  ASSERT_TRUE(run(guest.flush()));
  world_.cut_power();
  world_.restore_power();
  EXPECT_TRUE(holds(guest, 2, kGranule, kGranule));
  ASSERT_TRUE(list_.cancel("j"));
  finish();
}

// Writes that never rest, of many more bytes than the job is allowed to copy at once.
TEST_F(MirrorJobTest, ComesToAnEndUnderWritesThatDoNot) {
  block::Edge& guest = add_source();
  add_target();
  world_.set_delays(std::chrono::milliseconds(1));
  bool stop = false;
  struct Writer {
    static io::Task<void> work(block::Edge& edge, const bool& enough) {
      testing::Random random(1);
      while (!enough) {
        const uint64_t offset = random.below(kSize / kGranule) * kGranule;
        const std::vector<std::byte> data = pattern(random.next(), offset, 512);
        EXPECT_TRUE(co_await edge.write(offset, data.data(), data.size()));
      }
    }
  };
  io::TaskGroup writers;
  writers.spawn(Writer::work(guest, stop));
  ASSERT_TRUE(start(mirror()));
  wait_for(JobStatus::kReady);
  ASSERT_TRUE(list_.complete("j"));
  EXPECT_EQ(finish(), "");
  EXPECT_EQ(&guest.node(), graph_.find("target").get());
  stop = true;
  run(writers.join());
}

}  // namespace
}  // namespace cairn::jobs
