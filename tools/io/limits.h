// Limits that cairn-io's commands share.
#pragma once

#include <cstdint>

namespace cairn::tools {

// Bytes in one request of cairn-io: what fits into an int, in whole sectors.
inline constexpr uint64_t kLargestIoRequest = (uint64_t{1} << 31) - 512;

}  // namespace cairn::tools
