#include "jobs/backup_job.h"

#include <cerrno>
#include <chrono>
#include <utility>

#include "base/bytes.h"
#include "block/graph_edit.h"
#include "block/request_scope.h"
#include "io/reactor.h"
#include "jobs/filter_node.h"
#include "jobs/job_list.h"

namespace cairn::jobs {
namespace {

using schema::BitmapSyncMode;
using schema::MirrorSyncMode;

constexpr auto kLongWait = std::chrono::hours(1);

Result<std::shared_ptr<block::Node>> insert_cbw(block::GraphEdit& edit,
                                                const BackupSettings& wanted, uint64_t granule) {
  if (wanted.target->read_only()) {
    return fail(EACCES, "Could not create node: Block node is read-only");
  }
  const filters::CopyBeforeWrite::Settings settings{.break_snapshot = wanted.break_snapshot,
                                                    .granule = granule,
                                                    .discard_source = wanted.discard_source};
  Result<void> target_added;
  block::NewFilter filter;
  filter.info = &filters::kCopyBeforeWriteDriver;
  filter.name = wanted.filter_name;
  filter.make = [&](block::Edge& file) -> std::unique_ptr<block::Driver> {
    target_added = edit.add_child(*file.parent(), "target", wanted.target, block::ChildRole::kData);
    block::Edge* target = file.parent()->child("target");
    return std::make_unique<filters::CopyBeforeWrite>(file, target != nullptr ? *target : file,
                                                      settings);
  };
  auto node = edit.insert_filter(wanted.source, std::move(filter));
  if (!node) {
    return pass(node, "Could not create node: ");
  }
  if (!target_added) {
    return pass(target_added);
  }
  return node;
}

}  // namespace

io::Task<Result<std::unique_ptr<Job>>> BackupJob::make(JobList& list, JobSettings settings,
                                                       block::Graph& graph, BackupSettings wanted) {
  const Result<uint64_t> granule =
      block::BlockCopy::granule_for(*wanted.target, wanted.least_granule);
  if (!granule) {
    co_return std::unexpected(granule.error());
  }
  block::GraphEdit edit(graph);
  auto filter = insert_cbw(edit, wanted, *granule);
  if (!filter) {
    co_return pass(filter);
  }
  if (wanted.chunk != 0 && wanted.chunk < *granule) {
    co_return fail(EINVAL, "Required max-chunk ({}) is less than backup cluster size ({})",
                   wanted.chunk, *granule);
  }
  const std::shared_ptr<block::Node> target = wanted.target;
  auto job = std::make_unique<BackupJob>(std::move(settings), graph, std::move(wanted), *filter);
  Result<void> good = job->announce(list);
  if (good) {
    good = edit.prepare();
  }
  if (!good) {
    list.withdraw(*job);
    co_return pass(good);
  }
  Result<void> done = co_await edit.commit();
  Result<void> kept = job->keep("main node", *filter, {});
  if (kept) {
    kept = job->keep("target", target, {});
  }
  if (!kept || !done) {
    Result<void> bypassed = co_await bypass_filter(graph, *filter, InDrain::kYes);
    Result<void> released = co_await job->release_nodes();
    list.withdraw(*job);
    co_return kept ? pass(done) : pass(kept);
  }
  job->begin();
  co_return job;
}

BackupJob::BackupJob(JobSettings settings, block::Graph& graph, BackupSettings wanted,
                     std::shared_ptr<block::Node> filter)
    : CopyJob(std::move(settings), graph, wanted.copying),
      wanted_(std::move(wanted)),
      filter_(std::move(filter)),
      cbw_(static_cast<filters::CopyBeforeWrite&>(filter_->driver())) {}

void BackupJob::begin() {
  if (wanted_.chunk != 0) {
    copy().set_chunk(wanted_.chunk);
  }
  copy().set_compressed(wanted_.compressed);
  copy().set_holes_are_zeroes(wanted_.sync == MirrorSyncMode::kFull &&
                              wanted_.target->backing() == nullptr);
  if (wanted_.bitmap != nullptr) {
    if (wanted_.sync == MirrorSyncMode::kBitmap || wanted_.sync == MirrorSyncMode::kIncremental) {
      choose_marked();
    }
    use_.emplace(*wanted_.bitmap);
    wanted_.bitmap->gather_aside();
  }
  copy().set_on_copied([this](uint64_t bytes) { add_done(bytes); });
  cbw_.set_on_lost([this] { wake_sleepers(); });
  if (wanted_.sync != MirrorSyncMode::kTop) {
    set_total(copy().pending_bytes());
  }
}

// Only what the bitmap marks is part of the backup.
void BackupJob::choose_marked() {
  const block::DirtyBitmap& bitmap = *wanted_.bitmap;
  const uint64_t granule = copy().granule();
  const uint64_t length = copy().length();
  block::SparseBits granules(copy().pending().size());
  for (auto at = bitmap.next_marked(0, length); at;) {
    const uint64_t end = bitmap.next_unmarked(*at, length).value_or(length);
    granules.set(*at / granule, (end + granule - 1) / granule - *at / granule);
    at = bitmap.next_marked(end, length);
  }
  cbw_.restrict_to(granules);
}

io::Task<Result<void>> BackupJob::run() {
  if (wanted_.sync == MirrorSyncMode::kNone) {
    co_return co_await save_on_demand();
  }
  if (wanted_.sync == MirrorSyncMode::kTop) {
    co_await leave_out_what_is_below();
    set_total(done() + copy().pending_bytes());
  }
  Result<void> copied = co_await copy_all(copy(), entrance());
  if (copied && !cancelled()) {
    copied = snapshot_state();
  }
  if (copied && !cancelled()) {
    copied = co_await flush_target();
  }
  co_return copied;
}

Result<void> BackupJob::snapshot_state() const {
  const Result<void> state = cbw_.state();
  return state ? state : std::unexpected(Error::from_errno(state.error().code()));
}

// Others copy, when they have to: the job only waits for its end, or for that of the snapshot.
io::Task<Result<void>> BackupJob::save_on_demand() {
  while (!cancelled() && cbw_.state()) {
    co_await pause_point();
    co_await sleep_until(io::Reactor::current().now() + kLongWait);
  }
  co_return snapshot_state();
}

// What the topmost image leaves to its backing file is none of this backup's. A granule that is so
// in parts stays.
io::Task<void> BackupJob::leave_out_what_is_below() {
  uint64_t hole = 0;  // everything from here to the offset is left to the backing file
  for (uint64_t offset = 0; !cancelled() && offset < copy().length();) {
    co_await pause_point();
    co_await block::wait_for_drain(entrance());
    const block::RequestScope scope(*filter_);
    block::Edge& source = copy().source();
    const block::Edge* below = source.node().backing();
    const block::Node* base = below != nullptr ? &below->node() : nullptr;
    const auto found = co_await source.chain_status(offset, copy().length() - offset, base);
    if (found && !found->status.allocated) {
      offset += found->status.length;
      copy().unmark_covered(hole, offset - hole);
    } else {
      // What can not be told is copied: reading will show what is there.
      offset = align_up(offset + (found ? found->status.length : 1), copy().granule());
      hole = offset;
    }
  }
}

// A backup that is done is on the disk.
io::Task<Result<void>> BackupJob::flush_target() {
  for (;;) {
    Result<void> flushed = co_await flush_once();
    if (flushed || cancelled()) {
      co_return flushed;
    }
    if (std::optional<Error> error = after_failure(false, flushed.error())) {
      co_return std::unexpected(std::move(*error));
    }
    co_await pause_point();
  }
}

io::Task<Result<void>> BackupJob::flush_once() {
  co_await block::wait_for_drain(entrance());
  const block::RequestScope scope(*filter_);
  co_return co_await copy().target().flush();
}

io::Task<void> BackupJob::commit() {
  if (wanted_.bitmap != nullptr) {
    if (wanted_.bitmap_mode == BitmapSyncMode::kNever) {
      wanted_.bitmap->merge_aside();
    } else {
      wanted_.bitmap->adopt_aside();
    }
  }
  co_return;
}

io::Task<void> BackupJob::abort() {
  if (wanted_.bitmap != nullptr) {
    if (wanted_.bitmap_mode == BitmapSyncMode::kAlways) {
      wanted_.bitmap->adopt_aside();
      mark_uncopied();
    } else {
      wanted_.bitmap->merge_aside();
    }
  }
  co_return;
}

void BackupJob::mark_uncopied() {
  for (auto run = copy().next_pending(0); run;) {
    wanted_.bitmap->mark(run->first, run->second);
    const uint64_t end = run->first + run->second;
    run = end < copy().length() ? copy().next_pending(end) : std::nullopt;
  }
}

io::Task<void> BackupJob::clean() {
  use_.reset();
  copy().set_on_copied({});
  cbw_.set_on_lost({});
  cbw_.end();
  const Result<void> bypassed = co_await bypass_filter(graph(), filter_, drain());
  static_cast<void>(bypassed);  // less is asked of the node below than before
  co_await CopyJob::clean();
  // A job may stay for long when it is over; nodes do not for its sake.
  filter_.reset();
  wanted_.source.reset();
  wanted_.target.reset();
}

}  // namespace cairn::jobs
