#include "crypto/openssl/cipher.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <span>

#include <openssl/evp.h>

#include "crypto/cipher.h"

namespace cairn::crypto::openssl {

namespace {

constexpr size_t kBlock = 16;

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

class Sha256 final : public Digest {
 public:
  Sha256()
      : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free),
        good_(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1) {}

  [[nodiscard]] bool good() const { return good_; }

  void update(std::span<const std::byte> data) override {
    good_ = good_ && EVP_DigestUpdate(context_.get(), data.data(), data.size()) == 1;
  }

  Result<std::string> finish() override {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned length = 0;
    if (!good_ || EVP_DigestFinal_ex(context_.get(), digest.data(), &length) != 1) {
      return fail(EIO, "SHA-256 failed");
    }
    std::string text;
    for (unsigned i = 0; i < length; ++i) {
      text += fmt::format("{:02x}", digest[i]);
    }
    return text;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
  bool good_;
};

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

Result<std::unique_ptr<Digest>> make_sha256() {
  auto digest = std::make_unique<Sha256>();
  if (!digest->good()) {
    return fail(ENOMEM, "SHA-256 is not available");
  }
  return digest;
}

}  // namespace cairn::crypto::openssl
