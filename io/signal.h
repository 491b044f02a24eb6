// SignalWatcher: waits for signals in a coroutine instead of handling them at any instant.
//
// Make it before the first thread is started: the signals are blocked in this thread and those it
// starts later, until the watcher is destroyed.
#pragma once

#include <signal.h>

#include <initializer_list>
#include <span>

#include "base/result.h"
#include "io/cancel.h"
#include "io/fd.h"
#include "io/task.h"

namespace cairn::io {

class SignalWatcher {
 public:
  [[nodiscard]] static Result<SignalWatcher> create(std::initializer_list<int> signals) {
    return create(std::span(signals.begin(), signals.size()));
  }
  [[nodiscard]] static Result<SignalWatcher> create(std::span<const int> signals);
  SignalWatcher(SignalWatcher&&) noexcept = default;
  SignalWatcher& operator=(SignalWatcher&&) = delete;
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;
  ~SignalWatcher();

  // The number of the next signal; ECANCELED when cancelled. The watcher outlives the task.
  [[nodiscard]] Task<Result<int>> next(CancelToken token = {}) const;

 private:
  SignalWatcher(Fd fd, const sigset_t& blocked_before)
      : fd_(std::move(fd)), blocked_before_(blocked_before) {}

  Fd fd_;
  sigset_t blocked_before_;
};

}  // namespace cairn::io
