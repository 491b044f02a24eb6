#include "jobs/zero_runs.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/sector.h"
#include "io/zero.h"

namespace cairn::jobs {
namespace {

constexpr uint64_t kLargestUnit = 4096;

void append(std::vector<DataRun>& runs, uint64_t begin, uint64_t end, bool zero) {
  if (begin == end) {
    return;
  }
  if (!runs.empty() && runs.back().zero == zero) {
    runs.back().length += end - begin;
  } else {
    runs.push_back({.offset = begin, .length = end - begin, .zero = zero});
  }
}

}  // namespace

void find_zero_runs(std::span<const std::byte> bytes, uint64_t position, const ZeroRunRules& rules,
                    std::vector<DataRun>& runs) {
  runs.clear();
  const uint64_t size = bytes.size();
  if (rules.shortest == 0) {
    append(runs, 0, size, false);
    return;
  }
  const uint64_t unit = is_aligned(rules.shortest, kLargestUnit) ? kLargestUnit : kSector;
  uint64_t offset = 0;
  while (offset < size) {
    // One run of units that are all zero or all not.
    const uint64_t begin = offset;
    bool zero = false;
    while (offset < size) {
      const uint64_t step = std::min(size - offset, unit - (position + offset) % unit);
      const bool is_zero = io::is_zero(bytes.subspan(offset, step));
      if (offset != begin && is_zero != zero) {
        break;
      }
      zero = is_zero;
      offset += step;
    }
    // Only whole units of the target can be left out.
    uint64_t first = begin;
    uint64_t last = offset;
    if (zero) {
      first = std::min(align_up(position + begin, rules.alignment) - position, offset);
      last = position + offset == rules.image_length
                 ? offset
                 : std::max(align_down(position + offset, rules.alignment), position + first) -
                       position;
    }
    const bool left_out = zero && first < last && offset - begin >= rules.shortest;
    if (left_out) {
      append(runs, begin, first, false);
      append(runs, first, last, true);
      append(runs, last, offset, false);
    } else {
      append(runs, begin, offset, false);
    }
  }
}

}  // namespace cairn::jobs
