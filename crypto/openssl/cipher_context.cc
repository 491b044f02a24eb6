#include "crypto/openssl/cipher_context.h"

#include <array>
#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include <openssl/provider.h>

namespace cairn::crypto::openssl {
namespace {

using CipherMethod = std::unique_ptr<EVP_CIPHER, decltype(&EVP_CIPHER_free)>;

// OpenSSL's names; empty where it has none.
constexpr std::array<std::string_view, 13> kNames = {
    "AES-128", "AES-192", "AES-256", "", "DES-EDE3", "CAST5", "", "", "", "", "", "", "SM4"};

// Old ciphers are in a provider of their own, which is not to serve the rest of the program.
OSSL_LIB_CTX* old_ciphers() {
  static OSSL_LIB_CTX* const library = [] {
    OSSL_LIB_CTX* made = OSSL_LIB_CTX_new();
    if (made != nullptr) {
      OSSL_PROVIDER_load(made, "legacy");
    }
    return made;
  }();
  return library;
}

CipherMethod find_method(Cipher cipher, CipherMode mode) {
  const std::string_view base = kNames[static_cast<std::size_t>(cipher)];
  if (base.empty()) {
    return {nullptr, &EVP_CIPHER_free};
  }
  std::string name(base);
  switch (mode) {
    case CipherMode::kCbc:
      name += "-CBC";
      break;
    case CipherMode::kCtr:
      name += "-CTR";
      break;
    case CipherMode::kEcb:
    case CipherMode::kXts:
      name += "-ECB";
      break;
  }
  OSSL_LIB_CTX* const library = cipher == Cipher::kCast5 ? old_ciphers() : nullptr;
  return {EVP_CIPHER_fetch(library, name.c_str(), nullptr), &EVP_CIPHER_free};
}

const unsigned char* raw(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

}  // namespace

Result<CipherContext> CipherContext::create(Cipher cipher, CipherMode mode, bool encrypt,
                                            std::span<const std::byte> key) {
  const CipherMethod method = find_method(cipher, mode);
  if (method == nullptr) {
    return fail(ENOTSUP, "Algorithm '{}' is not supported in mode '{}'", name_of(cipher),
                name_of(mode));
  }
  Handle handle(EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
  if (!handle || static_cast<std::size_t>(EVP_CIPHER_get_key_length(method.get())) != key.size() ||
      EVP_CipherInit_ex2(handle.get(), method.get(), raw(key), nullptr, encrypt ? 1 : 0, nullptr) !=
          1 ||
      EVP_CIPHER_CTX_set_padding(handle.get(), 0) != 1) {
    return fail(EIO, "The cipher '{}' can not be used", name_of(cipher));
  }
  return CipherContext(std::move(handle));
}

Result<CipherContext> CipherContext::copy() const {
  Handle handle(EVP_CIPHER_CTX_new(), &EVP_CIPHER_CTX_free);
  if (!handle || EVP_CIPHER_CTX_copy(handle.get(), handle_.get()) != 1) {
    return fail(ENOMEM, "There is no memory for another cipher");
  }
  return CipherContext(std::move(handle));
}

bool CipherContext::start(std::span<const std::byte> iv) {
  return EVP_CipherInit_ex2(handle_.get(), nullptr, nullptr, raw(iv), -1, nullptr) == 1;
}

bool CipherContext::update(std::span<const std::byte> in, std::span<std::byte> out) {
  int length = 0;
  return EVP_CipherUpdate(handle_.get(), reinterpret_cast<unsigned char*>(out.data()), &length,
                          raw(in), static_cast<int>(in.size())) == 1 &&
         static_cast<std::size_t>(length) == in.size();
}

}  // namespace cairn::crypto::openssl
