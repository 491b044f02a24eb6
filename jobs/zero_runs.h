// Telling the parts of a buffer that are worth writing from those that are zeroes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cairn::jobs {

struct ZeroRunRules {
  // All in bytes. Zeroes are looked for in units that are aligned on the image, and a run counts
  // from `shortest` on. 0: nothing counts as zeroes.
  uint64_t shortest = 4096;
  // What is left out begins and ends at multiples of this, a power of two (the target's unit of
  // allocation), or at the end of the image.
  uint64_t alignment = 1;
  uint64_t image_length = 0;
};

// A part of a buffer. Neighbours are of different kind.
struct DataRun {
  uint64_t offset = 0;  // in the buffer
  uint64_t length = 0;
  bool zero = false;
  bool same = false;  // for a copy that compares: the target holds it already
};

// Divides `bytes`, which lie at `position` in the image. Covers them without gaps, in order.
// Reuses the memory of `runs`.
void find_zero_runs(std::span<const std::byte> bytes, uint64_t position, const ZeroRunRules& rules,
                    std::vector<DataRun>& runs);

}  // namespace cairn::jobs
