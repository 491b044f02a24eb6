#include "tools/common/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>

#include <fmt/format.h>

#include "base/size_text.h"

namespace cairn::tools {
namespace {

constexpr double kStep = 1.0;  // percent
constexpr double kAll = 100.0;
constexpr double kBarPause = 0.2;   // seconds between two pictures of the bar
constexpr double kJsonPause = 1.0;  // the longest time between two lines
constexpr unsigned kUsualColumns = 80;
constexpr unsigned kShortestBar = 10;
constexpr unsigned kLongestBar = 40;

volatile std::sig_atomic_t asked = 0;

void on_signal(int /*signal*/) { asked = 1; }

// "0:07", "12:34", "3:00:00".
std::string clock_text(double seconds) {
  const auto all = static_cast<uint64_t>(std::llround(seconds));
  const uint64_t hours = all / 3600;
  const uint64_t minutes = all / 60 % 60;
  return hours > 0 ? fmt::format("{}:{:02}:{:02}", hours, minutes, all % 60)
                   : fmt::format("{}:{:02}", minutes, all % 60);
}

unsigned terminal_columns() {
  winsize size = {};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                         : kUsualColumns;
}

}  // namespace

double ProgressState::percent() const {
  return total == 0 ? kAll : kAll * static_cast<double>(done) / static_cast<double>(total);
}

double ProgressState::rate() const { return seconds > 0 ? static_cast<double>(done) / seconds : 0; }

std::string progress_bar(const ProgressState& state, unsigned columns) {
  const std::string percent = fmt::format("{:7.2f}% ", state.percent());
  std::string rest = fmt::format(" {} of {}", format_size(state.done), format_size(state.total));
  if (const double rate = state.rate(); rate >= 1) {
    rest += fmt::format(", {}/s", format_size(static_cast<uint64_t>(rate)));
    rest += state.done == state.total
                ? fmt::format(", {}", clock_text(state.seconds))
                : fmt::format(", {} left",
                              clock_text(static_cast<double>(state.total - state.done) / rate));
  }
  // The last column stays free: some terminals go on to the next line when it is used.
  const size_t text = percent.size() + rest.size() + 2;
  std::string bar;
  if (text + kShortestBar < columns) {
    const size_t width = std::min<size_t>(columns - 1 - text, kLongestBar);
    const auto full =
        std::min(static_cast<size_t>(static_cast<double>(width) * state.percent() / kAll), width);
    bar = std::string(full, '=') + std::string(width - full, ' ');
    if (full < width) {
      bar[full] = '>';
    }
    bar = "[" + bar + "]";
  }
  std::string line = percent + bar + rest;
  line.resize(std::min<size_t>(line.size(), std::max(columns, 1U) - 1));
  return line;
}

std::string progress_json(const ProgressState& state) {
  const double rate = state.rate();
  std::string rate_text = "null";
  std::string left_text = "null";
  if (rate > 0) {
    rate_text = fmt::format("{:.0f}", rate);
    left_text = fmt::format("{:.1f}", static_cast<double>(state.total - state.done) / rate);
  }
  return fmt::format(
      R"({{"done": {}, "total": {}, "percent": {:.2f}, "rate": {}, "remaining": {}}})", state.done,
      state.total, state.percent(), rate_text, left_text);
}

ProgressLine::Show ProgressLine::wanted(bool progress, bool quiet) {
  if (quiet) {
    return Show::kNever;
  }
  if (!progress) {
    return Show::kOnSignal;
  }
  return isatty(STDOUT_FILENO) == 1 ? Show::kBar : Show::kAlways;
}

ProgressLine::ProgressLine(Show show) : show_(show), begin_(std::chrono::steady_clock::now()) {
  if (show_ == Show::kOnSignal) {
    std::signal(SIGUSR1, on_signal);
  }
}

double ProgressLine::elapsed() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
}

void ProgressLine::announce() {
  if (show_ == Show::kAlways) {
    print({.done = 0, .total = 1});
  }
}

void ProgressLine::update(uint64_t done, uint64_t total) {
  if (show_ == Show::kNever || (show_ == Show::kOnSignal && asked == 0)) {
    return;
  }
  ProgressState state{.done = done, .total = total};
  const double percent = state.percent();
  const bool last = done == total && shown_ < kAll;
  const bool step = asked != 0 || shown_ < 0 || percent >= shown_ + kStep || last;
  if (show_ == Show::kAlways || show_ == Show::kOnSignal) {
    if (!step) {
      return;
    }
  } else {
    state.seconds = elapsed();
    const double pause = state.seconds - shown_at_;
    if (!(show_ == Show::kBar ? last || shown_ < 0 || pause >= kBarPause
                              : step || pause >= kJsonPause)) {
      return;
    }
    shown_at_ = state.seconds;
  }
  print(state);
  asked = 0;
}

void ProgressLine::finish() {
  if (show_ == Show::kAlways || (show_ == Show::kBar && shown_ >= 0)) {
    fmt::print("\n");
  }
}

void ProgressLine::print(const ProgressState& state) {
  if (show_ == Show::kJson) {
    fmt::print("{}\n", progress_json(state));
  } else if (show_ == Show::kBar) {
    std::string line = progress_bar(state, terminal_columns());
    const auto width = static_cast<unsigned>(line.size());
    line.append(last_width_ > width ? last_width_ - width : 0, ' ');
    last_width_ = width;
    fmt::print("{}\r", line);
  } else {
    fmt::print("    ({:3.2f}/100%)\r", state.percent());
  }
  std::fflush(stdout);
  shown_ = state.percent();
}

}  // namespace cairn::tools
