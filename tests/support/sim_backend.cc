#include "tests/support/sim_backend.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

namespace cairn::testing {

void SimBackend::submit(io::Operation& /*operation*/) { die("a request for the kernel"); }

void SimBackend::cancel(io::Operation& /*operation*/) { die("a request for the kernel"); }

void SimBackend::wait(std::optional<io::Duration> timeout) {
  if (std::exchange(woken_, false)) {
    return;
  }
  if (!timeout) {
    die("a deadlock: nothing is ready and no timer runs");
  }
  now_ += *timeout;
}

void SimBackend::die(std::string_view what) const {
  fmt::print(stderr, "simulation with seed {}: {}\n", seed_, what);
  if (report_) {
    fmt::print(stderr, "{}\n", report_());
  }
  std::abort();
}

}  // namespace cairn::testing
