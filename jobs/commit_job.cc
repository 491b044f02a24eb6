#include "jobs/commit_job.h"

#include <algorithm>
#include <utility>

#include "io/reactor.h"
#include "jobs/active_commit.h"
#include "jobs/chain.h"
#include "jobs/commit.h"
#include "jobs/filter_node.h"
#include "jobs/intermediate_commit.h"

namespace cairn::jobs {
namespace {

using block::PermissionSet;

// How long a job that ignores errors waits before it tries again.
constexpr auto kRetryPause = std::chrono::milliseconds(100);

}  // namespace

io::Task<Result<std::unique_ptr<Job>>> CommitJob::make(JobList& list, block::Graph& graph,
                                                       CommitJobOptions options, InDrain drain) {
  std::unique_ptr<CommitJob> job;
  const bool active = below_filters(options.top) == below_filters(options.device);
  if (active) {
    job = std::make_unique<ActiveCommit>(graph, std::move(options));
  } else {
    job = std::make_unique<IntermediateCommit>(graph, std::move(options));
  }
  // The one kind is there before its filter, the other after it.
  Result<void> result = active ? Result<void>() : job->announce(list);
  if (result) {
    result = co_await job->set_up(active ? &list : nullptr, drain);
  }
  if (!result) {
    list.withdraw(*job);
    co_return pass(result);
  }
  co_return job;
}

CommitJob::CommitJob(block::Graph& graph, CommitJobOptions options)
    : BlockJob(options.settings, graph, options.speed),
      options_(std::move(options)),
      image_(below_filters(options_.top)),
      base_writable_(graph),
      image_writable_(graph) {
  for (auto above = image_; above != nullptr && above != below_filters(options_.base);
       above = image_behind(*above)) {
    ++layers_;
  }
}

io::Task<Result<void>> CommitJob::set_up(JobList* announced_to, InDrain drain) {
  Result<void> result = co_await base_writable_.take(below_filters(options_.base), drain);
  if (result && base_grows()) {
    result = co_await image_writable_.take(image_, drain);
  }
  if (result) {
    block::NewFilter wanted = new_filter(options_.filter_node_name);
    auto inserting = insert_filter(graph(), image_, std::move(wanted), drain);
    auto filter = co_await std::move(inserting);
    if (filter) {
      filter_ = std::move(*filter);
      result = announced_to != nullptr ? announce(*announced_to) : Result<void>();
      if (result) {
        result = keep_nodes();
      }
    } else {
      result = pass(filter);
    }
  }
  if (!result) {
    set_drain(drain);
    co_await clean();
  }
  co_return result;
}

Result<void> CommitJob::keep_between(const std::shared_ptr<block::Node>& first) {
  const PermissionSet not_read = PermissionSet::kWrite | PermissionSet::kWriteUnchanged;
  Result<void> kept;
  const std::shared_ptr<block::Node> base = below_filters(options_.base);
  for (auto between = first; kept && between != base; between = image_behind(*between)) {
    kept = keep("intermediate node", between, {.shared = not_read});
  }
  return kept;
}

io::Task<Result<CommitJob::Piece>> CommitJob::look(uint64_t offset, uint64_t length) {
  length = std::min(length, PieceCopy::kMost);
  const Result<block::ChainStatus> status =
      co_await source_->chain_status(offset, length, options_.base.get());
  if (!status) {
    co_return std::unexpected(status.error());
  }
  Piece piece{.length = std::min(length, status->status.length), .zero = status->status.zero};
  // Where an image between ends, it hides what the base has there.
  const bool hidden = static_cast<std::size_t>(status->depth) + 1 < layers_;
  piece.needed = status->status.allocated || hidden;
  piece.zero = piece.zero || !status->status.allocated;
  co_return piece;
}

io::Task<std::optional<PieceFailure>> CommitJob::copy(uint64_t offset, Piece piece) {
  if (!piece.needed) {
    co_return std::nullopt;
  }
  auto copying = copier_.copy(*source_, *target_, offset, piece.length, piece.zero);
  std::optional<PieceFailure> failure = co_await std::move(copying);
  if (!failure) {
    charge(piece.length);
  }
  co_return failure;
}

io::Task<bool> CommitJob::tries_again(schema::IoOperationType operation, Error error) {
  switch (on_error(options_.on_error, operation, error)) {
    case schema::BlockErrorAction::kReport:
      co_return false;
    case schema::BlockErrorAction::kIgnore:
      co_await sleep_until(io::Reactor::current().now() + kRetryPause);
      co_return true;
    case schema::BlockErrorAction::kStop:
      break;
  }
  co_return true;
}

io::Task<Result<void>> CommitJob::grow() { return grow_base(*source_, *target_); }

Result<void> CommitJob::move_users(block::GraphEdit& edit) {
  const std::vector<block::Edge*> users = filter_->parents();
  for (block::Edge* user : users) {
    const bool ours =
        std::ranges::any_of(kept(), [user](const auto& edge) { return edge.get() == user; });
    if (ours) {
      continue;
    }
    if (auto moved = edit.replace_child(*user, options_.base); !moved) {
      return moved;
    }
  }
  return {};
}

io::Task<void> CommitJob::clean() {
  source_ = nullptr;
  target_ = nullptr;
  if (filter_ != nullptr) {
    // Should somebody's permissions be in the way, the filter stays; it is in nobody's way.
    const Result<void> gone =
        co_await bypass_filter(graph(), std::exchange(filter_, nullptr), drain());
    static_cast<void>(gone);
  }
  co_await BlockJob::clean();
  co_await base_writable_.give_back(drain());
  co_await image_writable_.give_back(drain());
  options_.device.reset();
  options_.top.reset();
  options_.base.reset();
  image_.reset();
}

}  // namespace cairn::jobs
