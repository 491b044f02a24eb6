#include "jobs/job.h"

#include <algorithm>
#include <cerrno>

#include "io/timer.h"
#include "jobs/job_list.h"

namespace cairn::jobs {

using schema::JobStatus;

bool Job::ready() const { return status_ == JobStatus::kReady || status_ == JobStatus::kStandby; }

io::Task<Result<void>> Job::prepare() { co_return Result<void>(); }

io::Task<void> Job::commit() { co_return; }

io::Task<void> Job::abort() { co_return; }

io::Task<void> Job::clean() { co_return; }

Result<void> Job::complete() {
  return fail(ENOTSUP, "The active block job '{}' cannot be completed", id());
}

void Job::add_done(uint64_t units) {
  done_ += units;
  total_ = std::max(total_, done_);
}

void Job::become_ready() { list_->become_ready(*this); }

io::Task<void> Job::pause_point() {
  // Several of its tasks may pause; the first one and the last one say so.
  while (!resumed_.is_set() && !cancelled()) {
    ++idle_;
    if (paused_++ == 0) {
      list_->change_status(*this,
                           status_ == JobStatus::kReady ? JobStatus::kStandby : JobStatus::kPaused);
    }
    static_cast<void>(co_await resumed_.wait(cancel_.token()));
    --idle_;
    if (--paused_ == 0) {
      list_->change_status(
          *this, status_ == JobStatus::kStandby ? JobStatus::kReady : JobStatus::kRunning);
    }
  }
}

io::Task<void> Job::sleep_until(io::TimePoint when) {
  if (cancelled() || pause_wanted()) {
    co_return;
  }
  io::CancelSource woken;
  sleepers_.push_back(&woken);
  ++idle_;
  static_cast<void>(co_await io::sleep_until(when, woken.token()));
  --idle_;
  std::erase(sleepers_, &woken);
}

void Job::wake_sleepers() {
  for (io::CancelSource* sleeper : sleepers_) {
    sleeper->cancel();
  }
}

}  // namespace cairn::jobs
