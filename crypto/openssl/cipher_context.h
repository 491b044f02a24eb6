// CipherContext: one key of one of OpenSSL's ciphers in one direction, without padding.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include <openssl/evp.h>

#include "base/result.h"
#include "crypto/algorithms.h"

namespace cairn::crypto::openssl {

class CipherContext {
 public:
  // `mode` is one that OpenSSL has: not XTS. ENOTSUP when the cipher is not there.
  [[nodiscard]] static Result<CipherContext> create(Cipher cipher, CipherMode mode, bool encrypt,
                                                    std::span<const std::byte> key);

  // ENOMEM.
  [[nodiscard]] Result<CipherContext> copy() const;

  // The initialisation vector of what comes next; a block.
  [[nodiscard]] bool start(std::span<const std::byte> iv);
  // Whole blocks; may be done in place.
  [[nodiscard]] bool update(std::span<const std::byte> in, std::span<std::byte> out);

 private:
  using Handle = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;
  explicit CipherContext(Handle handle) : handle_(std::move(handle)) {}

  Handle handle_;  // wipes its key when it goes
};

}  // namespace cairn::crypto::openssl
