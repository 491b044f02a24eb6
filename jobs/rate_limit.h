// RateLimit: when so many bytes a second let the next piece of work begin.
//
// What is done is charged afterwards: the first piece begins at once, whatever its size, and each
// later one when those before it have been paid for. Time that nothing was done in is not saved up.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "io/backend.h"

namespace cairn::jobs {

class RateLimit {
 public:
  // In bytes a second; 0: none.
  explicit RateLimit(uint64_t speed = 0) : speed_(speed) {}

  [[nodiscard]] uint64_t speed() const { return speed_; }
  // What was charged before is forgotten: the new limit holds from now on.
  void set_speed(uint64_t speed) {
    speed_ = speed;
    next_ = {};
  }

  void charge(uint64_t bytes, io::TimePoint now) {
    if (speed_ != 0) {
      constexpr double kLongest = 1e8;  // seconds: far from where times overflow
      const std::chrono::duration<double> cost(
          std::min(static_cast<double>(bytes) / static_cast<double>(speed_), kLongest));
      next_ = std::max(next_, now) + std::chrono::duration_cast<io::Duration>(cost);
    }
  }
  // When the next piece of work may begin; in the past: now.
  [[nodiscard]] io::TimePoint next() const { return next_; }

 private:
  uint64_t speed_;
  io::TimePoint next_;
};

}  // namespace cairn::jobs
