// Hashes and key derivation on OpenSSL; what they do is said in crypto/hash.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "crypto/algorithms.h"

namespace cairn::crypto::openssl {

[[nodiscard]] Result<void> hash_bytes(Hash hash, std::span<const std::span<const std::byte>> parts,
                                      std::span<std::byte> out);
[[nodiscard]] Result<void> pbkdf2(Hash hash, std::span<const std::byte> password,
                                  std::span<const std::byte> salt, uint32_t iterations,
                                  std::span<std::byte> out);

}  // namespace cairn::crypto::openssl
