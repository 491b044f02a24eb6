#include "io/leaky_bucket.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace cairn::io {
namespace {

// Without a burst a bucket holds a tenth of a second, so that not every other request has to wait.
constexpr double kSlack = 0.1;
// No wait is longer: who waits asks again.
constexpr double kLongestWait = 3600;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

// The time in which `surplus` leaks out at `rate`, rounded up.
Duration time_to_leak(double surplus, double rate) {
  if (surplus <= 0) {
    return Duration::zero();
  }
  const std::chrono::duration<double, std::nano> exact =
      std::chrono::duration<double>(std::min(surplus / rate, kLongestWait));
  return Duration(static_cast<Duration::rep>(std::ceil(exact.count())) + 1);
}

}  // namespace

void LeakyBucket::set(RateLimit limit, TimePoint now) {
  limit_ = limit;
  level_ = 0;
  burst_level_ = 0;
  leaked_ = now;
}

void LeakyBucket::leak(TimePoint now) {
  const double elapsed = seconds(now - leaked_);
  leaked_ = now;
  level_ = std::max(level_ - limit_.average * elapsed, 0.0);
  burst_level_ = std::max(burst_level_ - limit_.burst * elapsed, 0.0);
}

Duration LeakyBucket::wait(TimePoint now) {
  if (!limited()) {
    return Duration::zero();
  }
  leak(now);
  if (limit_.burst <= 0) {
    return time_to_leak(level_ - limit_.average * kSlack, limit_.average);
  }
  const Duration wait = time_to_leak(level_ - limit_.burst * limit_.burst_seconds, limit_.average);
  if (limit_.burst_seconds <= 1) {
    return wait;
  }
  return std::max(wait, time_to_leak(burst_level_ - limit_.burst * kSlack, limit_.burst));
}

void LeakyBucket::pour(double units, TimePoint now) {
  if (!limited()) {
    return;
  }
  leak(now);
  level_ += units;
  burst_level_ += units;
}

}  // namespace cairn::io
