// Argon2 (RFC 9106): keys from passwords, at a cost of memory as well as time. ENOTSUP everywhere
// in a build without libargon2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace cairn::crypto {

enum class Argon2Kind : uint8_t { kI, kId };

struct Argon2Cost {
  uint32_t passes = 4;
  uint32_t memory = 1u << 20;  // KiB
  uint32_t lanes = 4;
};

// Fills `out`. ENOMEM when there is not so much memory.
[[nodiscard]] Result<void> argon2(Argon2Kind kind, std::span<const std::byte> password,
                                  std::span<const std::byte> salt, Argon2Cost cost,
                                  std::span<std::byte> out);

// How many passes over the memory take so many milliseconds of the clock; at least those of `cost`.
[[nodiscard]] Result<uint32_t> argon2_passes(Argon2Kind kind, Argon2Cost cost,
                                             uint64_t milliseconds);

}  // namespace cairn::crypto
