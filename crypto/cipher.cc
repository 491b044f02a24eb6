#include "crypto/cipher.h"

#include <cerrno>
#include <memory>

#include <openssl/crypto.h>
#include <openssl/evp.h>

namespace cairn::crypto {

namespace {

constexpr size_t kBlock = 16;

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

}  // namespace

Result<std::string> decrypt_aes_256_cbc(std::string_view key, std::string_view iv,
                                        std::string_view text) {
  if (iv.size() != kBlock) {
    return fail(EINVAL, "IV should be {} bytes in length not {}", kBlock, iv.size());
  }
  if (text.empty() || text.size() % kBlock != 0) {
    return fail(EINVAL, "Length {} must be a multiple of block size {}", text.size(), kBlock);
  }
  const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(
      EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
  std::string plain(text.size() + kBlock, '\0');
  auto* out = reinterpret_cast<unsigned char*>(plain.data());
  int most = 0;
  int rest = 0;
  if (!context ||
      EVP_DecryptInit_ex(context.get(), EVP_aes_256_cbc(), nullptr, bytes_of(key), bytes_of(iv)) !=
          1 ||
      EVP_DecryptUpdate(context.get(), out, &most, bytes_of(text), static_cast<int>(text.size())) !=
          1 ||
      EVP_DecryptFinal_ex(context.get(), out + most, &rest) != 1) {
    wipe(plain);
    return fail(EINVAL, "Incorrect padding found on decrypted data");
  }
  plain.resize(static_cast<size_t>(most) + static_cast<size_t>(rest));
  return plain;
}

void wipe(std::string& text) {
  OPENSSL_cleanse(text.data(), text.size());
  text.clear();
}

}  // namespace cairn::crypto
