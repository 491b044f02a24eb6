// What the copy-before-write filter saves, when, and what happens when it can not.
#include <cerrno>

#include "block/dirty_bitmap.h"
#include "io/task_group.h"
#include "tests/filters/snapshot_test.h"

namespace cairn::filters {
namespace {

using testing::FaultRule;
using testing::IoKind;
using testing::kZeroes;

using CopyBeforeWriteTest = SnapshotTest;

TEST_F(CopyBeforeWriteTest, SavesAGranuleOnceBeforeItIsOverwritten) {
  add_files();
  block::Edge& guest = insert();
  block::Edge& target = attach_target();
  ASSERT_TRUE(write(guest, 2, kGranule + 5, 100));
  EXPECT_TRUE(holds(target, 1, kGranule, kGranule));
  EXPECT_TRUE(holds(target, kZeroes, 0, kGranule)) << "nobody wrote there";
  const uint64_t writes = world_.submitted(IoKind::kWrite);
  ASSERT_TRUE(write(guest, 3, kGranule + 1000, 100));
  EXPECT_EQ(world_.submitted(IoKind::kWrite), writes + 1);
  EXPECT_TRUE(holds(target, 1, kGranule, kGranule));
  EXPECT_TRUE(holds(guest, 2, kGranule + 5, 100));
  EXPECT_TRUE(holds(guest, 3, kGranule + 1000, 100));
}

TEST_F(CopyBeforeWriteTest, ZeroesAndDiscardsSaveToo) {
  add_files();
  block::Edge& guest = insert();
  block::Edge& target = attach_target();
  ASSERT_TRUE(run(guest.write_zeroes(0, 512)));
  ASSERT_TRUE(run(guest.discard(2 * kGranule, kGranule)));
  EXPECT_TRUE(holds(target, 1, 0, kGranule));
  EXPECT_TRUE(holds(target, 1, 2 * kGranule, kGranule));
  EXPECT_TRUE(holds(guest, kZeroes, 2 * kGranule, kGranule));
}

TEST_F(CopyBeforeWriteTest, HolesAreNotReadAndNotWritten) {
  add_files();
  block::Edge& guest = insert();
  const uint64_t reads = world_.submitted(IoKind::kRead);
  ASSERT_TRUE(write(guest, 2, kHole, 4 * kGranule));
  EXPECT_EQ(world_.submitted(IoKind::kRead), reads);
  EXPECT_EQ(world_.submitted(IoKind::kZero), 0U) << "the target reads as zeroes already";
  EXPECT_FALSE(filter().copy().any_pending(kHole, 4 * kGranule));
}

TEST_F(CopyBeforeWriteTest, ASnapshotShowsTheDiskAsItWas) {
  add_files();
  block::Edge& guest = insert();
  block::Edge& snapshot = attach_snapshot();
  EXPECT_TRUE(holds_old(snapshot));
  ASSERT_TRUE(write(guest, 2, kGranule / 2, 3 * kGranule));
  ASSERT_TRUE(write(guest, 3, kHole - 100, 200));
  ASSERT_TRUE(run(guest.write_zeroes(5 * kGranule, kGranule)));
  EXPECT_TRUE(holds_old(snapshot));
  EXPECT_TRUE(holds(guest, 2, kGranule / 2, 3 * kGranule));
  const Result<block::ChainStatus> hole = run(snapshot.chain_status(kHole + kGranule, kGranule));
  ASSERT_TRUE(hole);
  EXPECT_TRUE(hole->status.zero);
  const Result<block::ChainStatus> data = run(snapshot.chain_status(0, kSize));
  ASSERT_TRUE(data);
  EXPECT_TRUE(data->status.data);
  EXPECT_LE(data->status.length, kHole);
}

TEST_F(CopyBeforeWriteTest, ASnapshotIsNotWrittenTo) {
  add_files();
  insert();
  block::Edge& snapshot = attach_snapshot();
  const Result<void> written = write(snapshot, 2, 0, 512);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), ENOTSUP);
}

TEST_F(CopyBeforeWriteTest, NobodyElseWritesToTheSourceWhileThereAreUsers) {
  add_files();
  insert();
  const auto other = graph_.attach(graph_.find("source"), "another", kWriter);
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), EPERM);
}

TEST_F(CopyBeforeWriteTest, AFailureToSaveFailsTheWrite) {
  add_files();
  block::Edge& guest = insert();
  block::Edge& snapshot = attach_snapshot();
  world_.add_fault({.kind = IoKind::kWrite, .file = "target", .error = ENOSPC});
  const Result<void> refused = write(guest, 2, 0, 512);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ENOSPC);
  EXPECT_TRUE(holds(guest, 1, 0, 512)) << "the old data is still there";
  EXPECT_TRUE(holds_old(snapshot));
  ASSERT_TRUE(write(guest, 3, 0, 512)) << "saving is tried again";
  EXPECT_TRUE(holds_old(snapshot));
}

TEST_F(CopyBeforeWriteTest, OrItLosesTheSnapshot) {
  add_files();
  block::Edge& guest = insert({.on_cbw_error = schema::OnCbwError::kBreakSnapshot});
  block::Edge& snapshot = attach_snapshot();
  world_.add_fault({.kind = IoKind::kWrite, .file = "target", .error = ENOSPC});
  ASSERT_TRUE(write(guest, 2, 0, 512));
  EXPECT_TRUE(holds(guest, 2, 0, 512));
  std::vector<std::byte> data(512);
  const Result<void> lost = run(snapshot.read(8 * kGranule, data.data(), data.size()));
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().code(), EACCES);
  EXPECT_EQ(filter().state().error().code(), ENOSPC);
}

TEST_F(CopyBeforeWriteTest, SavingThatTakesTooLongCountsAsFailed) {
  add_files();
  block::Edge& guest = insert({.cbw_timeout = 1});
  block::Edge& snapshot = attach_snapshot();
  world_.set_delays(std::chrono::seconds(1000), 1);
  const Result<void> late = write(guest, 2, 0, 512);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), ETIMEDOUT);
  world_.set_delays(io::Duration(0));
  EXPECT_TRUE(holds_old(snapshot)) << "the copy goes on, and readers wait for it";
  EXPECT_FALSE(filter().copy().any_pending(0, kGranule));
  EXPECT_TRUE(write(guest, 2, 0, 512));
}

TEST_F(CopyBeforeWriteTest, WithABitmapOnlyWhatItMarksIsSaved) {
  add_files();
  schema::BlockdevOptions target = file_options("target");
  target.node_name = "target";
  block::Edge& holder = attach(target, kReader);
  auto bitmap = std::make_unique<block::DirtyBitmap>("b", 32 << 10, kSize);
  bitmap->mark(2 * kGranule, 1);
  holder.node().add_bitmap(std::move(bitmap));

  schema::BlockdevOptionsCbw own;
  own.file = defined(file_options("source"), "source");
  own.target = named("target");
  own.bitmap = schema::BlockDirtyBitmap{.node = "target", .name = "b"};
  block::Edge& guest = attach_filter(std::move(own));
  block::Edge& snapshot = attach_snapshot();
  ASSERT_TRUE(write(guest, 2, 0, 4 * kGranule));
  EXPECT_TRUE(holds(snapshot, 1, 2 * kGranule, kGranule));
  EXPECT_TRUE(holds(holder, kZeroes, 0, 2 * kGranule));
  std::vector<std::byte> data(512);
  const Result<void> outside = run(snapshot.read(0, data.data(), data.size()));
  ASSERT_FALSE(outside);
  EXPECT_EQ(outside.error().code(), EACCES);
}

TEST_F(CopyBeforeWriteTest, WhatReadersGiveUpIsNotSavedAnyMore) {
  add_files();
  block::Edge& guest = insert();
  block::Edge& snapshot = attach_snapshot();
  ASSERT_TRUE(run(snapshot.discard(kGranule - 1, kGranule + 2)));
  std::vector<std::byte> data(512);
  EXPECT_FALSE(run(snapshot.read(kGranule, data.data(), data.size())));
  EXPECT_TRUE(holds(snapshot, 1, 0, kGranule)) << "granules at the ends were not given up";
  const uint64_t reads = world_.submitted(IoKind::kRead);
  ASSERT_TRUE(write(guest, 2, kGranule, kGranule));
  EXPECT_EQ(world_.submitted(IoKind::kRead), reads);
}

TEST_F(CopyBeforeWriteTest, TheGranuleCanBeMadeLarger) {
  add_files();
  block::Edge& guest = insert({.min_cluster_size = 4 * kGranule});
  block::Edge& target = attach_target();
  ASSERT_TRUE(write(guest, 2, 5 * kGranule, 512));
  EXPECT_TRUE(holds(target, 1, 4 * kGranule, 4 * kGranule));
  EXPECT_TRUE(holds(target, kZeroes, 0, 4 * kGranule));
}

}  // namespace
}  // namespace cairn::filters
