// Progress of a long operation: a line that overwrites itself, with -p always, else when SIGUSR1
// asks for it. On a terminal it is a bar with the rate and the time that is left; elsewhere it is
// what the field's programs print, to the byte. For programs there are lines of JSON.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace cairn::tools {

// How far an operation is, and since when it runs.
struct ProgressState {
  uint64_t done = 0;  // bytes
  uint64_t total = 0;
  double seconds = 0;  // since the beginning

  [[nodiscard]] double percent() const;
  // Bytes a second so far; 0 when it can not be told yet.
  [[nodiscard]] double rate() const;
};

// "  42.00% [=====>     ] 1.5 GiB of 3.6 GiB, 812 MiB/s, 0:02 left", no longer than `columns`.
[[nodiscard]] std::string progress_bar(const ProgressState& state, unsigned columns);

// One JSON object on one line, without its end: "done", "total" and "rate" in bytes, "percent", and
// "remaining" in seconds; what can not be told yet is null.
[[nodiscard]] std::string progress_json(const ProgressState& state);

class ProgressLine {
 public:
  enum class Show : uint8_t { kAlways, kBar, kJson, kOnSignal, kNever };
  // What -p and -q ask for.
  [[nodiscard]] static Show wanted(bool progress, bool quiet);
  explicit ProgressLine(Show show);

  // Nothing is done yet, and maybe nothing will be: for programs that look for the first line.
  void announce();
  // `done` of `total` bytes. Prints when that is a step worth showing, or was asked for.
  void update(uint64_t done, uint64_t total);
  // It is over, one way or the other: breaks the line.
  void finish();

 private:
  void print(const ProgressState& state);
  [[nodiscard]] double elapsed() const;

  Show show_;
  std::chrono::steady_clock::time_point begin_;
  double shown_ = -1;        // percent
  double shown_at_ = 0;      // seconds
  unsigned last_width_ = 0;  // of the bar
};

}  // namespace cairn::tools
