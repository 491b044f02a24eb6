#include "jobs/copy_job.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "block/request_scope.h"
#include "io/reactor.h"
#include "jobs/copy_window.h"

namespace cairn::jobs {
namespace {

// Before what failed is tried again with no success in between.
constexpr auto kRetryDelay = std::chrono::milliseconds(100);

}  // namespace

// One way through the disk.
struct CopyJob::Round {
  block::BlockCopy& copy;
  block::Edge& entrance;
  CopyWindow window;
  uint64_t position = 0;
  bool at_end = false;
  std::optional<Error> error = {};
  io::TaskGroup parts = {};
};

std::optional<Error> CopyJob::after_failure(bool reading, const Error& error) {
  if (pause_wanted()) {
    return std::nullopt;  // it has been told of, or somebody else has the job wait anyway
  }
  const auto policy = reading ? wanted_.on_source_error : wanted_.on_target_error;
  const auto operation = reading ? schema::IoOperationType::kRead : schema::IoOperationType::kWrite;
  if (on_error(policy, operation, error) == schema::BlockErrorAction::kReport) {
    return Error::from_errno(error.code());
  }
  return std::nullopt;
}

io::Task<Result<void>> CopyJob::copy_once(block::BlockCopy& copy, block::Edge& entrance) {
  Round round{.copy = copy, .entrance = entrance, .window = CopyWindow(wanted_.workers)};
  while (!round.at_end && !round.error && !cancelled() && copy.next_pending(round.position)) {
    if (pause_wanted()) {
      co_await round.parts.join();
    }
    co_await may_go_on();
    co_await begin_step(round);
  }
  co_await round.parts.join();
  if (round.error) {
    co_return std::unexpected(std::move(*round.error));
  }
  co_return Result<void>();
}

// The next part is copied in the background, when there is a place for it.
io::Task<void> CopyJob::begin_step(Round& round) {
  auto place = co_await round.window.enter();
  co_await block::wait_for_drain(round.entrance);
  if (pause_wanted() || cancelled() || round.error) {
    co_return;
  }
  const block::RequestScope scope(round.entrance.node());
  const auto run = round.copy.next_pending(round.position);
  if (!run) {
    round.at_end = true;
    co_return;
  }
  const block::BlockCopy::Step step = co_await round.copy.next_step(run->first, run->second);
  if (!step.zero) {
    charge(step.length);
  }
  round.position = run->first + step.length;
  round.parts.spawn(copy_part(round, run->first, step.length, std::move(place)));
}

io::Task<void> CopyJob::copy_part(Round& round, uint64_t offset, uint64_t length,
                                  io::Semaphore::Units place) {
  const block::RequestScope scope(round.entrance.node());
  const io::TimePoint begin = io::Reactor::current().now();
  const block::BlockCopy::Outcome outcome = co_await round.copy.copy(offset, length);
  if (!outcome.result && !round.error && !cancelled()) {
    round.error = after_failure(outcome.reading, outcome.result.error());
  }
  std::optional<io::Duration> took;
  if (outcome.data_bytes > 0) {
    took = io::Reactor::current().now() - begin;
  }
  round.window.leave(std::move(place), took);
}

io::Task<Result<void>> CopyJob::copy_all(block::BlockCopy& copy, block::Edge& entrance) {
  while (!cancelled()) {
    const uint64_t before = copy.pending_bytes();
    if (before == 0) {
      break;
    }
    Result<void> copied = co_await copy_once(copy, entrance);
    if (!copied) {
      co_return copied;
    }
    if (copy.pending_bytes() >= before && !pause_wanted()) {
      co_await sleep_until(io::Reactor::current().now() + kRetryDelay);
    }
  }
  co_return Result<void>();
}

}  // namespace cairn::jobs
