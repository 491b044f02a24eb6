// The longest that a node can be.
#pragma once

#include <cstdint>

namespace cairn::block {

// In bytes. Offsets and sizes of requests stay below this, so that sums of a few of them can not
// overflow.
inline constexpr uint64_t kLargestLength = (uint64_t{1} << 63) - (uint64_t{1} << 30);

}  // namespace cairn::block
