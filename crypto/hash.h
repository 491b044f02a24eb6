// Hashes of memory, and keys from passwords: what headers of encrypted images are read with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "base/result.h"
#include "crypto/algorithms.h"

namespace cairn::crypto {

// The hash of `parts` one after the other into `out`, which has digest_length() bytes. ENOTSUP when
// the library does not have it.
[[nodiscard]] Result<void> hash_bytes(Hash hash,
                                      std::initializer_list<std::span<const std::byte>> parts,
                                      std::span<std::byte> out);

// PBKDF2 (RFC 8018, 5.2) with HMAC of the hash; fills `out`.
[[nodiscard]] Result<void> pbkdf2(Hash hash, std::span<const std::byte> password,
                                  std::span<const std::byte> salt, uint32_t iterations,
                                  std::span<std::byte> out);

// How many iterations of PBKDF2 this machine needs for `out_length` bytes in `milliseconds` of a
// processor's time; at least `least`. ERANGE when that is more than 32 bits can hold.
[[nodiscard]] Result<uint32_t> pbkdf2_iterations(Hash hash, std::size_t out_length,
                                                 uint64_t milliseconds, uint32_t least);

// Unpredictable bytes, from the kernel.
[[nodiscard]] Result<void> random_bytes(std::span<std::byte> out);

// Whether two secrets are the same, in a time that does not depend on where they differ.
[[nodiscard]] bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b);

}  // namespace cairn::crypto
