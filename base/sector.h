// The unit that image formats and their tools count in, whatever the sectors of the disk below.
#pragma once

#include <cstdint>

namespace cairn {

inline constexpr uint64_t kSector = 512;

}  // namespace cairn
