#include "jobs/mirror_job.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "block/request_scope.h"
#include "io/reactor.h"
#include "jobs/filter_node.h"
#include "jobs/job_list.h"

namespace cairn::jobs {
namespace {

using schema::MirrorCopyMode;
using schema::MirrorSyncMode;

constexpr uint64_t kUsualBuffer = 16u << 20;
constexpr uint64_t kMostWorkers = 16;
// A disk that is written to all the time may never be copied without a rest. After so many ways
// through it a rest that is copied in one go is good enough.
constexpr unsigned kEnoughRounds = 3;
constexpr auto kNoHurry = std::chrono::hours(1);
constexpr auto kBetweenRetries = std::chrono::milliseconds(100);

CopySettings with_workers(CopySettings copying, uint64_t buffer) {
  const uint64_t bytes = buffer != 0 ? buffer : kUsualBuffer;
  copying.workers = static_cast<unsigned>(
      std::clamp<uint64_t>(bytes / block::BlockCopy::kUsualChunk, 1, kMostWorkers));
  return copying;
}

}  // namespace

MirrorJob::MirrorJob(JobSettings settings, block::Graph& graph, MirrorSettings wanted)
    : CopyJob(std::move(settings), graph, with_workers(wanted.copying, wanted.buffer)),
      wanted_(std::move(wanted)) {}

io::Task<Result<std::unique_ptr<Job>>> MirrorJob::make(JobList& list, JobSettings settings,
                                                       block::Graph& graph, MirrorSettings wanted) {
  auto job = std::make_unique<MirrorJob>(std::move(settings), graph, std::move(wanted));
  Result<void> begun = co_await job->begin(list);
  if (!begun) {
    list.withdraw(*job);
    co_return pass(begun);
  }
  co_return job;
}

filters::MirrorTop& MirrorJob::top() const {
  return static_cast<filters::MirrorTop&>(filter_->driver());
}

io::Task<Result<void>> MirrorJob::begin(JobList& list) {
  block::NewFilter wanted;
  wanted.info = wanted_.filter_info;
  wanted.name = wanted_.filter_name;
  wanted.edge = "backing";
  wanted.make = [](block::Edge& child) { return std::make_unique<filters::MirrorTop>(child); };
  {
    block::GraphEdit edit(graph());
    auto filter = edit.insert_filter(wanted_.source, std::move(wanted));
    if (!filter) {
      co_return pass(filter);
    }
    Result<void> good = announce(list);
    if (good) {
      good = edit.prepare();
    }
    if (!good) {
      co_return good;
    }
    filter_ = *filter;
    Result<void> done = co_await edit.commit();
    if (!done) {
      co_return done;
    }
  }
  Result<void> kept = co_await keep_nodes();
  if (!kept) {
    Result<void> bypassed = co_await bypass_filter(graph(), filter_, InDrain::kYes);
    Result<void> released = co_await release_nodes();
    co_return kept;
  }
  start_following();
  co_return Result<void>();
}

io::Task<Result<void>> MirrorJob::keep_nodes() {
  using P = block::PermissionSet;
  const P shared = P::all().without(P::kResize);
  Result<void> kept = keep("main node", filter_, {.used = P::kConsistentRead, .shared = shared});
  if (kept) {
    kept = keep("source", wanted_.source, {.shared = shared});
  }
  if (kept) {
    kept = keep("target", wanted_.target, {});
  }
  if (!kept) {
    co_return kept;
  }
  auto edge = attach(wanted_.target, wanted_.on_target);
  if (!edge) {
    co_return pass(edge);
  }
  const uint64_t cluster = wanted_.target->driver().cluster_size();
  const uint64_t usual = std::max<uint64_t>(block::BlockCopy::kLeastGranule, cluster);
  const bool all = wanted_.sync == MirrorSyncMode::kFull;
  copy_.emplace(
      *filter_->children().front(), **edge,
      block::BlockCopy::Options{.mode = block::BlockCopy::Mode::kFollow,
                                .granule = wanted_.granularity != 0 ? wanted_.granularity : usual,
                                .chunk = wanted_.buffer != 0 ? wanted_.buffer : kUsualBuffer,
                                .target_is_zero = all && wanted_.target_is_zero,
                                .holes_are_zeroes = all && wanted_.target->backing() == nullptr,
                                .unmap = wanted_.unmap});
  co_return Result<void>();
}

void MirrorJob::start_following() {
  copy_->set_on_copied([this](uint64_t bytes) { add_done(bytes); });
  filters::MirrorTop::Observer observer;
  observer.changed = [this] {
    if (following_) {
      grow_total();
      wake_sleepers();
    }
  };
  observer.written = [this](uint64_t bytes) { add_done(bytes); };
  observer.target_failed = [this](const Error& error) {
    if (!failure_) {
      failure_ = after_failure(false, error);
    }
    wake_sleepers();
  };
  top().set_write_both(wanted_.write_both);
  top().start(*copy_, std::move(observer));
  if (wanted_.sync == MirrorSyncMode::kFull) {
    copy_->mark(0, copy_->length());
  }
}

bool MirrorJob::actively_synced() const {
  return ready() && top().writes_both() && copy_->uncopied_bytes() == 0;
}

Result<void> MirrorJob::change(const schema::BlockJobChangeOptions& wanted) {
  const auto* mirror = std::get_if<schema::BlockJobChangeOptionsMirror>(&wanted.branch);
  if (wanted.type != type() || mirror == nullptr) {
    return fail(EINVAL, "Job '{}' is not of type '{}'", id(), schema::to_string(wanted.type));
  }
  const bool both = mirror->copy_mode == MirrorCopyMode::kWriteBlocking;
  if (both == top().writes_both()) {
    return {};
  }
  if (!both) {
    return fail(ENOTSUP, "Change to copy mode 'background' is not implemented");
  }
  top().set_write_both(true);
  return {};
}

io::Task<Result<void>> MirrorJob::check_nodes() {
  if (wanted_.source->length() != wanted_.target->length()) {
    co_return fail(EINVAL, "Source and target image have different sizes");
  }
  co_return Result<void>();
}

io::Task<Result<void>> MirrorJob::run() {
  Result<void> good = co_await check_nodes();
  if (!good) {
    co_return good;
  }
  following_ = true;
  grow_total();
  Result<void> marked = co_await mark_first();
  if (!marked) {
    co_return marked;
  }
  while (!cancelled() && !(ready() && finishing_ && !pause_wanted())) {
    Result<void> copied = co_await copy_more();
    if (!copied) {
      co_return copied;
    }
  }
  co_return Result<void>();
}

// With top: what lies above the base. Nothing is marked before it is found out, so that writes of
// others meanwhile are not forgotten.
io::Task<Result<void>> MirrorJob::mark_first() {
  if (wanted_.sync != MirrorSyncMode::kTop) {
    co_return Result<void>();
  }
  for (uint64_t offset = 0; offset < copy_->length() && !cancelled();) {
    co_await pause_point();
    co_await block::wait_for_drain(entrance());
    const block::RequestScope scope(*filter_);
    const block::Edge* below = wanted_.source->backing();
    const block::Node* base = wanted_.base.get();
    if (base == nullptr && below != nullptr) {
      base = &below->node();
    }
    const auto found =
        co_await copy_->source().chain_status(offset, copy_->length() - offset, base);
    if (!found) {
      co_return std::unexpected(Error::from_errno(found.error().code()));
    }
    if (found->status.allocated) {
      copy_->mark(offset, found->status.length);
      grow_total();
    }
    offset += found->status.length;
  }
  co_return Result<void>();
}

// One way through the disk, or a wait for something to do.
io::Task<Result<void>> MirrorJob::copy_more() {
  co_await pause_point();
  if (failure_) {
    co_return std::unexpected(*failure_);
  }
  const uint64_t before = copy_->pending_bytes();
  if (before != 0) {
    Result<void> copied = co_await copy_once(*copy_, entrance());
    if (!copied) {
      co_return copied;
    }
    ++rounds_;
  }
  Result<void> ready_now = co_await become_ready_when_alike();
  if (!ready_now) {
    co_return ready_now;
  }
  if (cancelled() || (ready() && finishing_)) {
    co_return Result<void>();
  }
  const uint64_t left = copy_->pending_bytes();
  const auto now = io::Reactor::current().now();
  if (left == 0 && ready()) {
    co_await sleep_until(now + kNoHurry);
  } else if (left == 0 || left == before) {
    co_await sleep_until(now + kBetweenRetries);  // nothing but failures, which are tried again
  }
  co_return Result<void>();
}

bool MirrorJob::caught_up() const {
  const uint64_t left = copy_->uncopied_bytes();
  const uint64_t buffer = wanted_.buffer != 0 ? wanted_.buffer : kUsualBuffer;
  return left == 0 || (rounds_ >= kEnoughRounds && left <= buffer);
}

io::Task<Result<void>> MirrorJob::become_ready_when_alike() {
  if (ready() || cancelled() || pause_wanted() || !caught_up()) {
    co_return Result<void>();
  }
  Result<void> flushed = co_await flush_target();
  if (!flushed) {
    if (std::optional<Error> error = after_failure(false, flushed.error())) {
      co_return std::unexpected(std::move(*error));
    }
    co_return Result<void>();
  }
  if (!cancelled()) {
    become_ready();
  }
  co_return Result<void>();
}

io::Task<Result<void>> MirrorJob::flush_target() {
  co_await block::wait_for_drain(entrance());
  const block::RequestScope scope(*filter_);
  copy_->let_target_through();
  co_return co_await copy_->target().flush();
}

Result<void> MirrorJob::complete() {
  finishing_ = true;
  pivot_ = true;
  wake_sleepers();
  return {};
}

bool MirrorJob::end_softly() {
  finishing_ = true;
  wake_sleepers();
  return true;
}

// The job may have waited for long to be finalized: most of what came meanwhile is copied while
// requests still come, and the rest while none does.
io::Task<Result<void>> MirrorJob::prepare() {
  for (unsigned i = 0; i < kEnoughRounds && copy_->pending_bytes() != 0; ++i) {
    Result<void> copied = co_await copy_once(*copy_, entrance());
    if (!copied) {
      co_return copied;
    }
  }
  const auto alone = co_await graph().alone();
  Result<void> result = co_await copy_rest();
  if (result && pivot_) {
    result = co_await pivot();
  }
  if (result) {
    top().stop();
  }
  co_return result;
}

// The caller holds the drain.
io::Task<Result<void>> MirrorJob::copy_rest() {
  while (const auto run = copy_->next_pending(0)) {
    const block::BlockCopy::Outcome outcome = co_await copy_->copy(run->first, run->second);
    if (!outcome.result) {
      co_return std::unexpected(Error::from_errno(outcome.result.error().code()));
    }
  }
  copy_->let_target_through();
  Result<void> flushed = co_await copy_->target().flush();
  if (!flushed) {
    co_return std::unexpected(Error::from_errno(flushed.error().code()));
  }
  co_return flushed;
}

Result<void> MirrorJob::move_users(block::GraphEdit& edit) {
  if (wanted_.backing != nullptr && wanted_.target->backing() == nullptr) {
    auto added =
        edit.add_child(*wanted_.target, "backing", wanted_.backing, block::ChildRole::kBacking);
    if (!added) {
      return added;
    }
  }
  if (wanted_.replaced != nullptr && wanted_.replaced != wanted_.source) {
    edit.bypass_filter(filter_);
    edit.insert_above(wanted_.replaced, wanted_.target);
  } else {
    edit.insert_above(filter_, wanted_.target);
  }
  return {};
}

// The caller holds the drain. Nothing is written to the target by the job any more.
io::Task<Result<void>> MirrorJob::pivot() {
  for (const auto& edge : kept()) {
    if (auto less = graph().set_permissions(*edge, {}); !less) {
      co_return less;
    }
  }
  if (auto less = graph().set_permissions(copy_->target(), {}); !less) {
    co_return less;
  }
  block::GraphEdit edit(graph());
  Result<void> moved = move_users(edit);
  if (moved) {
    moved = edit.prepare();
  }
  if (!moved) {
    co_return moved;
  }
  // A node that can not write out the rest when it is closed tells its own story.
  const Result<void> closed = co_await edit.commit();
  static_cast<void>(closed);
  co_return Result<void>();
}

io::Task<void> MirrorJob::abort() {
  top().stop();
  co_return;
}

io::Task<void> MirrorJob::clean() {
  top().stop();
  const Result<void> bypassed = co_await bypass_filter(graph(), filter_, drain());
  static_cast<void>(bypassed);  // less is asked of the node below than before
  co_await CopyJob::clean();
  // A job may stay for long when it is over; nodes do not for its sake.
  for (auto* node : {&wanted_.source, &wanted_.target, &wanted_.replaced, &wanted_.backing,
                     &wanted_.base, &filter_}) {
    node->reset();
  }
}

}  // namespace cairn::jobs
