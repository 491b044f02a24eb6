// Backend: how a reactor reaches the kernel. Two complete ones exist, io_uring and epoll with
// threads; the simulator brings a third that owns time.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>

#include "base/result.h"
#include "io/operation.h"

namespace cairn::io {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = Clock::duration;

class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual TimePoint now() const { return Clock::now(); }

  // Starts `operation`; it completes in a later wait(), never in here, by
  // `operation.waiter.wake()` with its result set.
  virtual void submit(Operation& operation) = 0;

  // Asks for an early end of an operation in flight. It still completes.
  virtual void cancel(Operation& operation) = 0;

  // Hands batched submissions to the kernel and completes what is done. With a timeout above zero
  // it sleeps until something completes, wake() is called or the time has passed; without one, for
  // as long as it takes.
  virtual void wait(std::optional<Duration> timeout) = 0;

  // Ends a wait() that sleeps, or the next one that would. From any thread.
  virtual void wake() = 0;
};

// Both fail with an errno when the kernel (or a container's policy) does not offer what they need.
[[nodiscard]] Result<std::unique_ptr<Backend>> make_uring_backend();
[[nodiscard]] Result<std::unique_ptr<Backend>> make_epoll_backend();

}  // namespace cairn::io
