// SimBackend: a reactor back end that owns time.
//
// Nothing here touches the kernel: there are no descriptors, and waiting moves a virtual clock to
// the next timer at once. Everything that happens in a simulation is a timer or a coroutine that is
// ready; when there is neither and somebody still waits, nothing can ever happen again: a deadlock,
// which is reported loudly with the seed.
#pragma once

#include <functional>
#include <string>

#include "io/backend.h"

namespace cairn::testing {

class SimBackend final : public io::Backend {
 public:
  explicit SimBackend(uint64_t seed) : seed_(seed) {}

  [[nodiscard]] std::string_view name() const override { return "simulated"; }
  [[nodiscard]] io::TimePoint now() const override { return now_; }

  // Real I/O has no place in a simulation: both end the program with a message.
  void submit(io::Operation& operation) override;
  void cancel(io::Operation& operation) override;

  void wait(std::optional<io::Duration> timeout) override;
  void wake() override { woken_ = true; }

  // Called in a deadlock, before the program ends; prints what would help.
  void set_deadlock_report(std::function<std::string()> report) { report_ = std::move(report); }

 private:
  [[noreturn]] void die(std::string_view what) const;

  uint64_t seed_;
  // Not zero, so that a default TimePoint is in the past.
  io::TimePoint now_{std::chrono::hours(1)};
  bool woken_ = false;
  std::function<std::string()> report_;
};

}  // namespace cairn::testing
