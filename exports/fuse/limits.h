// Limits that mounting and serving agree on.
#pragma once

#include <cstdint>

namespace cairn::fuse {

// What the kernel counts the memory of a request in, and what the data of a write is aligned to.
inline constexpr uint32_t kPage = 4096;
// Most data of one write, and of one read, in bytes.
inline constexpr uint32_t kLargestWrite = 1u << 20;
inline constexpr uint32_t kLargestRead = 1u << 20;

}  // namespace cairn::fuse
