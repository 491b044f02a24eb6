// Progress of a long operation: a line that overwrites itself, with -p always, else when SIGUSR1
// asks for it.
#pragma once

#include <cstdint>

namespace cairn::tools {

class ProgressLine {
 public:
  enum class Show : uint8_t { kAlways, kOnSignal, kNever };
  // What -p and -q ask for.
  [[nodiscard]] static Show wanted(bool progress, bool quiet) {
    return quiet ? Show::kNever : progress ? Show::kAlways : Show::kOnSignal;
  }
  explicit ProgressLine(Show show);

  // `done` of `total` bytes. Prints when that is a step worth showing, or was asked for.
  void update(uint64_t done, uint64_t total);
  // It is over, one way or the other: breaks the line.
  void finish();

 private:
  void print(double percent);

  Show show_;
  double shown_ = -1;  // percent
};

}  // namespace cairn::tools
