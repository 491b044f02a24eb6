#include "crypto/openssl/hash.h"

#include <array>
#include <cerrno>
#include <climits>
#include <memory>

#include <openssl/evp.h>

namespace cairn::crypto::openssl {
namespace {

using HashMethod = std::unique_ptr<EVP_MD, decltype(&EVP_MD_free)>;

// Looked up once each, since that takes longer than hashing a few bytes. Null: it is not there.
const EVP_MD* find_method(Hash hash) {
  constexpr std::array kHashNames = {"MD5",    "SHA1",   "SHA224",    "SHA256",
                                     "SHA384", "SHA512", "RIPEMD160", "SM3"};
  static const std::array<HashMethod, kHashNames.size()> methods = [&kHashNames] {
    const auto fetch = [&kHashNames](std::size_t i) {
      return HashMethod(EVP_MD_fetch(nullptr, kHashNames[i], nullptr), &EVP_MD_free);
    };
    return std::array<HashMethod, kHashNames.size()>{fetch(0), fetch(1), fetch(2), fetch(3),
                                                     fetch(4), fetch(5), fetch(6), fetch(7)};
  }();
  return methods[static_cast<std::size_t>(hash)].get();
}

std::unexpected<Error> no_hash(Hash hash) {
  return fail(ENOTSUP, "Hash algorithm '{}' is not supported", name_of(hash));
}

}  // namespace

Result<void> hash_bytes(Hash hash, std::span<const std::span<const std::byte>> parts,
                        std::span<std::byte> out) {
  const EVP_MD* method = find_method(hash);
  if (method == nullptr) {
    return no_hash(hash);
  }
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  bool good = context != nullptr && out.size() == digest_length(hash) &&
              EVP_DigestInit_ex2(context.get(), method, nullptr) == 1;
  for (const std::span<const std::byte> part : parts) {
    good = good && EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1;
  }
  unsigned length = 0;
  if (!good || EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(out.data()),
                                  &length) != 1) {
    return fail(EIO, "Hashing with {} failed", name_of(hash));
  }
  return {};
}

Result<void> pbkdf2(Hash hash, std::span<const std::byte> password, std::span<const std::byte> salt,
                    uint32_t iterations, std::span<std::byte> out) {
  const EVP_MD* method = find_method(hash);
  if (method == nullptr) {
    return no_hash(hash);
  }
  if (iterations == 0 || iterations > INT_MAX || password.size() > INT_MAX ||
      salt.size() > INT_MAX || out.size() > INT_MAX) {
    return fail(EINVAL, "A key can not be derived with {} iterations", iterations);
  }
  if (PKCS5_PBKDF2_HMAC(
          reinterpret_cast<const char*>(password.data()), static_cast<int>(password.size()),
          reinterpret_cast<const unsigned char*>(salt.data()), static_cast<int>(salt.size()),
          static_cast<int>(iterations), method, static_cast<int>(out.size()),
          reinterpret_cast<unsigned char*>(out.data())) != 1) {
    return fail(EIO, "Deriving a key with {} failed", name_of(hash));
  }
  return {};
}

}  // namespace cairn::crypto::openssl
