// SectorCipher: encrypts a disk's sectors, each with an initialisation vector made from its number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "crypto/algorithms.h"

namespace cairn::crypto {

struct SectorCipherParameters {
  Cipher cipher = Cipher::kAes256;
  CipherMode mode = CipherMode::kXts;
  IvGenerator iv_generator = IvGenerator::kPlain64;
  Hash iv_hash = Hash::kSha256;  // of the key, for kEssiv
  uint32_t sector_size = 512;    // bytes; a multiple of the cipher's block
  // By how much the number grows from sector to sector.
  uint64_t iv_step = 1;
};

// Has no state that a call changes: any thread may use it at any time.
class SectorCipher {
 public:
  SectorCipher() = default;
  SectorCipher(const SectorCipher&) = delete;
  SectorCipher& operator=(const SectorCipher&) = delete;
  virtual ~SectorCipher() = default;

  // Whole sectors, of which the first has the number `number`. `in` and `out` have the same length
  // and may be the same memory.
  [[nodiscard]] virtual Result<void> encrypt(uint64_t number, std::span<const std::byte> in,
                                             std::span<std::byte> out) const = 0;
  [[nodiscard]] virtual Result<void> decrypt(uint64_t number, std::span<const std::byte> in,
                                             std::span<std::byte> out) const = 0;
};

// Bytes of the key: twice the cipher's in XTS mode.
[[nodiscard]] std::size_t key_length(const SectorCipherParameters& parameters);

// `key` has key_length() bytes. ENOTSUP when the cipher is not there or the parts do not go
// together.
[[nodiscard]] Result<std::unique_ptr<SectorCipher>> make_sector_cipher(
    const SectorCipherParameters& parameters, std::span<const std::byte> key);

}  // namespace cairn::crypto
