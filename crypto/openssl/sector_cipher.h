// Sector ciphers on OpenSSL; what they do is said in crypto/sector_cipher.h.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "base/result.h"
#include "crypto/sector_cipher.h"

namespace cairn::crypto::openssl {

[[nodiscard]] Result<std::unique_ptr<SectorCipher>> make_sector_cipher(
    const SectorCipherParameters& parameters, std::span<const std::byte> key);

}  // namespace cairn::crypto::openssl
