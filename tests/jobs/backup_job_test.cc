// Backups: what is copied, what the bitmap says afterwards, and what happens to failures.
#include <cerrno>

#include "block/dirty_bitmap.h"
#include "tests/jobs/copy_job_test.h"

namespace cairn::jobs {
namespace {

using schema::BitmapSyncMode;
using schema::BlockdevOnError;
using schema::JobStatus;
using schema::MirrorSyncMode;
using testing::IoKind;

class BackupJobTest : public CopyJobTest {
 protected:
  block::DirtyBitmap& add_bitmap(block::Edge& guest) {
    return guest.node().add_bitmap(std::make_unique<block::DirtyBitmap>("b", kGranule, kSize));
  }
};

TEST_F(BackupJobTest, CopiesTheDiskAsItWasAtTheStart) {
  block::Edge& guest = add_source();
  add_target();
  BackupSettings wanted = backup();
  wanted.copying.speed = kGranule;
  ASSERT_TRUE(start(std::move(wanted)));
  ASSERT_TRUE(write(guest, 2, 3 * kGranule + 7, 5 * kGranule));
  ASSERT_TRUE(run(guest.write_zeroes(0, kGranule)));
  ASSERT_TRUE(write(guest, 3, kHole, kGranule));
  job().set_speed(0);
  EXPECT_EQ(finish(), "");
  EXPECT_EQ(content("target"), old_content());
  EXPECT_TRUE(holds(guest, 2, 3 * kGranule + 7, 5 * kGranule));
  EXPECT_EQ(graph_.nodes().size(), 2U) << "the filter has gone";
}

TEST_F(BackupJobTest, ProgressCountsWhatGuestsHaveCopied) {
  block::Edge& guest = add_source();
  add_target();
  BackupSettings wanted = backup();
  wanted.copying.speed = 1;
  ASSERT_TRUE(start(std::move(wanted)));
  ASSERT_TRUE(write(guest, 2, kHole - 4 * kGranule, 2 * kGranule));
  EXPECT_EQ(job().total(), kSize);
  EXPECT_GE(job().done(), 2 * kGranule);
  job().set_speed(0);
  run(until(JobStatus::kConcluded));
  EXPECT_EQ(job().done(), kSize);
  finish();
}

TEST_F(BackupJobTest, HolesAreNeitherReadNorWritten) {
  add_source();
  add_target();
  const uint64_t read = world_.transferred(IoKind::kRead);
  const uint64_t written = world_.transferred(IoKind::kWrite);
  ASSERT_TRUE(start(backup()));
  EXPECT_EQ(finish(), "");
  EXPECT_EQ(world_.transferred(IoKind::kRead) - read, kHole);
  EXPECT_EQ(world_.transferred(IoKind::kWrite) - written, kHole);
  EXPECT_EQ(world_.submitted(IoKind::kZero), 0U);
}

TEST_F(BackupJobTest, APauseCopiesNothingTwice) {
  add_source();
  add_target();
  BackupSettings wanted = backup();
  wanted.copying.speed = 4 * kGranule;
  wanted.chunk = kGranule;
  const uint64_t written = world_.transferred(IoKind::kWrite);
  ASSERT_TRUE(start(std::move(wanted)));
  ASSERT_TRUE(list_.pause("j"));
  wait_for(JobStatus::kPaused);
  ASSERT_TRUE(list_.resume("j"));
  job().set_speed(0);
  EXPECT_EQ(finish(), "");
  EXPECT_EQ(world_.transferred(IoKind::kWrite) - written, kHole);
  EXPECT_EQ(content("target"), old_content());
}

TEST_F(BackupJobTest, WithTopOnlyTheTopmostImageIsCopied) {
  world_.add("base", testing::SparseBytes());
  world_.add("overlay", testing::SparseBytes());
  ASSERT_TRUE(run(graph_.add_monitor_node(with_name(format_options("base"), "base"))));
  block::Edge& guest = attach(with_name(format_options("overlay", "base"), "source"));
  ASSERT_TRUE(write(guest, 2, 5 * kGranule, 100));
  add_target();
  BackupSettings wanted = backup();
  wanted.sync = MirrorSyncMode::kTop;
  const uint64_t written = world_.transferred(IoKind::kWrite);
  ASSERT_TRUE(start(std::move(wanted)));
  run(until(JobStatus::kConcluded));
  EXPECT_EQ(job().total(), kGranule);
  EXPECT_EQ(finish(), "");
  EXPECT_EQ(world_.transferred(IoKind::kWrite) - written, kGranule);
  EXPECT_TRUE(run(graph_.detach(std::move(edges_.front()))));
  edges_.erase(edges_.begin());
  ASSERT_TRUE(run(graph_.remove_monitor_node("base")));
}

TEST_F(BackupJobTest, WithNoneOnlyOldDataIsSavedUntilTheEnd) {
  block::Edge& guest = add_source();
  add_target();
  BackupSettings wanted = backup();
  wanted.sync = MirrorSyncMode::kNone;
  ASSERT_TRUE(start(std::move(wanted)));
  ASSERT_TRUE(write(guest, 2, 2 * kGranule, 10));
  ASSERT_TRUE(list_.cancel("j"));
  EXPECT_EQ(finish(), "Operation canceled");
  std::vector<std::byte> expected(kSize);
  const std::vector<std::byte> saved = pattern(1, 2 * kGranule, kGranule);
  std::copy(saved.begin(), saved.end(), expected.begin() + 2 * kGranule);
  EXPECT_EQ(content("target"), expected);
}

TEST_F(BackupJobTest, AnIncrementalBackupCopiesWhatIsMarkedAndClears) {
  block::Edge& guest = add_source();
  add_target();
  block::DirtyBitmap& bitmap = add_bitmap(guest);
  ASSERT_TRUE(write(guest, 2, 2 * kGranule, 10));
  BackupSettings wanted = backup();
  wanted.sync = MirrorSyncMode::kIncremental;
  wanted.bitmap = &bitmap;
  const uint64_t written = world_.transferred(IoKind::kWrite);
  world_.set_delays(std::chrono::milliseconds(100));
  ASSERT_TRUE(start(std::move(wanted)));
  EXPECT_TRUE(bitmap.busy());
  ASSERT_TRUE(write(guest, 3, 7 * kGranule, 10)) << "not part of the backup";
  EXPECT_EQ(bitmap.count(), kGranule) << "what the job works with";
  EXPECT_EQ(finish(), "");
  EXPECT_EQ(world_.transferred(IoKind::kWrite) - written, kGranule + 10);
  EXPECT_FALSE(bitmap.busy());
  EXPECT_EQ(bitmap.next_marked(0, kSize), 7 * kGranule);
  EXPECT_EQ(bitmap.count(), kGranule);
}

struct BitmapCase {
  BitmapSyncMode mode;
  bool fails;
  uint64_t granules;  // that are marked in the end
};

class BackupBitmapTest : public BackupJobTest, public ::testing::WithParamInterface<BitmapCase> {};

// Granules 0 and 8 are marked before, 12 meanwhile; copying granule 8 may fail.
TEST_P(BackupBitmapTest, EndsAsItsModeSays) {
  block::Edge& guest = add_source();
  add_target();
  block::DirtyBitmap& bitmap = add_bitmap(guest);
  bitmap.mark(0, 1);
  bitmap.mark(8 * kGranule, 1);
  BackupSettings wanted = backup();
  wanted.sync = MirrorSyncMode::kBitmap;
  wanted.bitmap = &bitmap;
  wanted.bitmap_mode = GetParam().mode;
  wanted.copying.workers = 1;
  if (GetParam().fails) {
    world_.add_fault(
        {.kind = IoKind::kWrite, .file = "target", .offset = 8 * kGranule, .length = 1});
  }
  world_.set_delays(std::chrono::milliseconds(1));
  ASSERT_TRUE(start(std::move(wanted)));
  ASSERT_TRUE(write(guest, 2, 12 * kGranule, 10));
  EXPECT_EQ(finish(), GetParam().fails ? "Input/output error" : "");
  EXPECT_EQ(bitmap.count(), GetParam().granules * kGranule);
  EXPECT_TRUE(bitmap.marked(12 * kGranule));
}

INSTANTIATE_TEST_SUITE_P(Modes, BackupBitmapTest,
                         ::testing::Values(BitmapCase{BitmapSyncMode::kOnSuccess, false, 1},
                                           BitmapCase{BitmapSyncMode::kOnSuccess, true, 3},
                                           BitmapCase{BitmapSyncMode::kAlways, false, 1},
                                           BitmapCase{BitmapSyncMode::kAlways, true, 2},
                                           BitmapCase{BitmapSyncMode::kNever, false, 3},
                                           BitmapCase{BitmapSyncMode::kNever, true, 3}));

TEST_F(BackupJobTest, AFailureToReadIsToldOfOnce) {
  add_source();
  add_target();
  world_.add_fault({.kind = IoKind::kRead, .file = "source", .times = 1000});
  ASSERT_TRUE(start(backup()));
  EXPECT_EQ(finish(), "Input/output error");
  EXPECT_EQ(errors_, std::vector<std::string>{"read report"});
}

TEST_F(BackupJobTest, IgnoredFailuresAreTriedAgain) {
  add_source();
  add_target();
  world_.add_fault({.kind = IoKind::kWrite, .file = "target", .times = 3});
  BackupSettings wanted = backup();
  wanted.copying.on_target_error = BlockdevOnError::kIgnore;
  wanted.copying.workers = 1;
  ASSERT_TRUE(start(std::move(wanted)));
  EXPECT_EQ(finish(), "");
  EXPECT_EQ(errors_.size(), 3U);
  EXPECT_EQ(content("target"), old_content());
}

TEST_F(BackupJobTest, AFullTargetStopsTheJobUntilItIsResumed) {
  add_source();
  add_target();
  world_.add_fault({.kind = IoKind::kWrite, .file = "target", .error = ENOSPC});
  BackupSettings wanted = backup();
  wanted.copying.on_target_error = BlockdevOnError::kEnospc;
  ASSERT_TRUE(start(std::move(wanted)));
  wait_for(JobStatus::kPaused);
  EXPECT_EQ(job().io_status(), schema::BlockDeviceIoStatus::kNospace);
  ASSERT_TRUE(list_.resume("j"));
  EXPECT_EQ(finish(), "");
  EXPECT_EQ(content("target"), old_content());
}

TEST_F(BackupJobTest, ASnapshotThatIsLostFailsTheBackup) {
  block::Edge& guest = add_source();
  add_target();
  world_.add_fault({.kind = IoKind::kWrite,
                    .file = "target",
                    .offset = 9 * kGranule,
                    .length = 1,
                    .error = ENOSPC});
  BackupSettings wanted = backup();
  wanted.copying.speed = 1;
  wanted.break_snapshot = true;
  ASSERT_TRUE(start(std::move(wanted)));
  ASSERT_TRUE(write(guest, 2, 9 * kGranule, 10)) << "the guest does not suffer";
  job().set_speed(0);
  EXPECT_EQ(finish(), "No space left on device");
}

TEST_F(BackupJobTest, TheTargetIsFlushedBeforeTheEnd) {
  add_source();
  add_target();
  ASSERT_TRUE(start(backup()));
  EXPECT_EQ(finish(), "");
  world_.cut_power();
  world_.restore_power();
  EXPECT_EQ(content("target"), old_content());
}

TEST_F(BackupJobTest, ABackupThatCanNotBeMadeLeavesNothingBehind) {
  add_source();
  add_target();
  BackupSettings wanted = backup();
  wanted.filter_name = "target";
  const Result<void> taken = start(std::move(wanted));
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().message(),
            "Could not create node: Duplicate nodes with node-name='target'");
  EXPECT_EQ(graph_.nodes().size(), 2U);
}

}  // namespace
}  // namespace cairn::jobs
