#include "crypto/sector_cipher.h"

#include <cerrno>

#include "crypto/library.h"

namespace cairn::crypto {

std::size_t key_length(const SectorCipherParameters& parameters) {
  return key_length(parameters.cipher) * (parameters.mode == CipherMode::kXts ? 2 : 1);
}

Result<std::unique_ptr<SectorCipher>> make_sector_cipher(const SectorCipherParameters& parameters,
                                                         std::span<const std::byte> key) {
  const std::size_t block = block_length(parameters.cipher);
  if (key.size() != key_length(parameters)) {
    return fail(EINVAL, "A key of {} bytes is of no use for {} in mode {}", key.size(),
                name_of(parameters.cipher), name_of(parameters.mode));
  }
  if (parameters.mode == CipherMode::kXts && block != 16) {
    return fail(ENOTSUP, "Unsupported cipher mode {}", name_of(parameters.mode));
  }
  if (parameters.sector_size == 0 || parameters.sector_size % block != 0) {
    return fail(EINVAL, "Sectors of {} bytes can not be encrypted", parameters.sector_size);
  }
  auto loaded = library();
  if (!loaded) {
    return pass(loaded);
  }
  return (*loaded)->make_sector_cipher(parameters, key);
}

}  // namespace cairn::crypto
