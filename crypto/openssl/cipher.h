// Ciphers and digests on OpenSSL; what they do is said in crypto/cipher.h and crypto/digest.h.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "crypto/digest.h"

namespace cairn::crypto::openssl {

[[nodiscard]] Result<std::string> decrypt_aes_256_cbc(std::string_view key, std::string_view iv,
                                                      std::string_view text);
[[nodiscard]] Result<std::unique_ptr<Digest>> make_sha256();

}  // namespace cairn::crypto::openssl
