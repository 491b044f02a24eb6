// New LUKS2 headers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "formats/encryption/options.h"

namespace cairn::encryption {

// Bytes from its beginning to where the disk begins.
inline constexpr uint64_t kLuks2HeaderLength = 16 << 20;

// Both copies, and the key material of the first slot; what follows up to kLuks2HeaderLength reads
// as zeroes. For the worker pool.
[[nodiscard]] Result<std::vector<std::byte>> make_luks2_header(const LuksParameters& parameters,
                                                               std::span<const std::byte> password,
                                                               bool detached);

}  // namespace cairn::encryption
