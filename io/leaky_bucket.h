// LeakyBucket: the arithmetic of a rate limit. Who calls it says what time it is.
//
// What is used is poured in, and leaks out at the rate of the limit. While the level is above what
// the bucket holds, nothing more may be used. So a limit is not a matter of even steps: what was
// not used for a while may be used at once, up to what the bucket holds; and a large request is let
// through whole and paid for afterwards.
//
// A burst, so much a second for so many seconds, is a bucket that holds all of it, and a second one
// above it that leaks at the burst's own rate, so that it does not go by faster.
#pragma once

#include "io/backend.h"

namespace cairn::io {

struct RateLimit {
  double average = 0;        // units a second; 0: no limit
  double burst = 0;          // units a second in a burst; 0: none
  double burst_seconds = 1;  // how long one may last

  bool operator==(const RateLimit&) const = default;
};

class LeakyBucket {
 public:
  // Starts empty.
  void set(RateLimit limit, TimePoint now);
  [[nodiscard]] const RateLimit& limit() const { return limit_; }
  [[nodiscard]] bool limited() const { return limit_.average > 0; }

  // How long to wait until something may be used; zero: at once.
  [[nodiscard]] Duration wait(TimePoint now);
  void pour(double units, TimePoint now);

 private:
  void leak(TimePoint now);

  RateLimit limit_;
  double level_ = 0;
  double burst_level_ = 0;
  TimePoint leaked_;  // up to when
};

}  // namespace cairn::io
