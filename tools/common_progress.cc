#include "tools/common_progress.h"

#include <csignal>
#include <cstdio>

#include <fmt/format.h>

namespace cairn::tools {
namespace {

constexpr double kStep = 1.0;  // percent
constexpr double kAll = 100.0;

volatile std::sig_atomic_t asked = 0;

void on_signal(int /*signal*/) { asked = 1; }

}  // namespace

ProgressLine::ProgressLine(Show show) : show_(show) {
  if (show_ == Show::kOnSignal) {
    std::signal(SIGUSR1, on_signal);
  }
}

void ProgressLine::update(uint64_t done, uint64_t total) {
  if (show_ == Show::kNever || (show_ == Show::kOnSignal && asked == 0)) {
    return;
  }
  const double percent =
      total == 0 ? kAll : kAll * static_cast<double>(done) / static_cast<double>(total);
  const bool last = done == total && shown_ < kAll;
  if (asked != 0 || shown_ < 0 || percent >= shown_ + kStep || last) {
    print(percent);
    asked = 0;
  }
}

void ProgressLine::finish() {
  if (show_ == Show::kAlways) {
    fmt::print("\n");
  }
}

void ProgressLine::print(double percent) {
  fmt::print("    ({:3.2f}/100%)\r", percent);
  std::fflush(stdout);
  shown_ = percent;
}

}  // namespace cairn::tools
