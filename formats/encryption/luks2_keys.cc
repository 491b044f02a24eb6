#include "formats/encryption/luks2_keys.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/bytes.h"
#include "crypto/anti_forensic.h"
#include "crypto/argon2_key.h"
#include "crypto/hash.h"
#include "formats/encryption/luks1_header.h"

namespace cairn::encryption {
namespace {

constexpr uint32_t kLeastIterationsOfLuks2 = 1000;
constexpr uint32_t kLeastPasses = 4;
constexpr std::size_t kSaltBytes = 32;
constexpr uint64_t kDigestShareOfLuks2 = 8;  // of the time that a slot takes

Result<void> derive(const Luks2Kdf& kdf, std::span<const std::byte> password,
                    std::span<std::byte> out) {
  const std::span<const std::byte> salt = crypto::bytes_of(kdf.salt);
  if (kdf.type == Luks2Kdf::Type::kPbkdf2) {
    return crypto::pbkdf2(kdf.hash, password, salt, kdf.iterations, out);
  }
  const crypto::Argon2Cost cost{.passes = kdf.iterations, .memory = kdf.memory, .lanes = kdf.lanes};
  const auto kind =
      kdf.type == Luks2Kdf::Type::kArgon2i ? crypto::Argon2Kind::kI : crypto::Argon2Kind::kId;
  return crypto::argon2(kind, password, salt, cost, out);
}

Result<std::unique_ptr<crypto::SectorCipher>> material_cipher(const Luks2Slot& slot,
                                                              std::span<const std::byte> password) {
  crypto::SecretBytes key(slot.cipher_key_bytes);
  if (auto derived = derive(slot.kdf, password, key.span()); !derived) {
    return pass(derived);
  }
  return crypto::make_sector_cipher(slot.cipher, key.span());
}

std::size_t split_bytes(const Luks2Slot& slot) {
  return std::size_t{slot.key_bytes} * Luks2Metadata::kStripes;
}

Result<std::string> make_salt() {
  std::string salt(kSaltBytes, '\0');
  auto got = crypto::random_bytes(std::as_writable_bytes(std::span(salt)));
  if (!got) {
    return pass(got);
  }
  return salt;
}

}  // namespace

std::size_t material_bytes(const Luks2Slot& slot) {
  return align_up(split_bytes(slot), kLuksSector);
}

Result<std::optional<crypto::SecretBytes>> open_luks2_slot(const Luks2Slot& slot,
                                                           const Luks2Digest& digest,
                                                           std::span<const std::byte> material,
                                                           std::span<const std::byte> password) {
  const auto cipher = material_cipher(slot, password);
  if (!cipher) {
    return std::unexpected(cipher.error());
  }
  crypto::SecretBytes plain(material.size());
  crypto::SecretBytes key(slot.key_bytes);
  std::vector<std::byte> found_digest(digest.digest.size());
  Result<void> result = (*cipher)->decrypt(0, material, plain.span());
  if (result) {
    result = crypto::merge_key(slot.hash, Luks2Metadata::kStripes,
                               plain.span().first(split_bytes(slot)), key.span());
  }
  if (result) {
    result = crypto::pbkdf2(digest.hash, key.span(), crypto::bytes_of(digest.salt),
                            digest.iterations, found_digest);
  }
  if (!result) {
    return pass(result);
  }
  std::optional<crypto::SecretBytes> found;
  if (crypto::same_bytes(found_digest, crypto::bytes_of(digest.digest))) {
    found = std::move(key);
  }
  return found;
}

Result<std::vector<std::byte>> seal_luks2_slot(const Luks2Slot& slot,
                                               std::span<const std::byte> key,
                                               std::span<const std::byte> password) {
  const auto cipher = material_cipher(slot, password);
  if (!cipher) {
    return std::unexpected(cipher.error());
  }
  crypto::SecretBytes plain(material_bytes(slot));
  std::vector<std::byte> material(plain.size());
  Result<void> result = crypto::split_key(slot.hash, Luks2Metadata::kStripes, key,
                                          plain.span().first(split_bytes(slot)));
  if (result) {
    result = (*cipher)->encrypt(0, plain.span(), material);
  }
  if (!result) {
    return pass(result);
  }
  return material;
}

Result<void> prepare_kdf(Luks2Kdf& kdf, uint32_t key_bytes, uint64_t milliseconds) {
  Result<std::string> salt = make_salt();
  if (!salt) {
    return pass(salt);
  }
  kdf.salt = std::move(*salt);
  if (kdf.type == Luks2Kdf::Type::kPbkdf2) {
    Result<uint32_t> iterations =
        crypto::pbkdf2_iterations(kdf.hash, key_bytes, milliseconds, kLeastIterationsOfLuks2);
    if (!iterations) {
      return pass(iterations);
    }
    kdf.iterations = std::min(*iterations, Luks2Metadata::kMostIterations);
    return {};
  }
  const auto kind =
      kdf.type == Luks2Kdf::Type::kArgon2i ? crypto::Argon2Kind::kI : crypto::Argon2Kind::kId;
  const crypto::Argon2Cost cost{.passes = kLeastPasses, .memory = kdf.memory, .lanes = kdf.lanes};
  Result<uint32_t> passes = crypto::argon2_passes(kind, cost, milliseconds);
  if (!passes) {
    return pass(passes);
  }
  kdf.iterations = std::min(*passes, Luks2Metadata::kMostPasses);
  return {};
}

Result<void> set_luks2_digest(Luks2Digest& digest, std::span<const std::byte> key,
                              uint64_t milliseconds) {
  Result<std::string> salt = make_salt();
  if (!salt) {
    return pass(salt);
  }
  digest.salt = std::move(*salt);
  Result<uint32_t> iterations = crypto::pbkdf2_iterations(
      digest.hash, key.size(), milliseconds / kDigestShareOfLuks2, kLeastIterationsOfLuks2);
  if (!iterations) {
    return pass(iterations);
  }
  digest.iterations = std::min(*iterations, Luks2Metadata::kMostIterations);
  digest.digest.resize(crypto::digest_length(digest.hash));
  return crypto::pbkdf2(digest.hash, key, crypto::bytes_of(digest.salt), digest.iterations,
                        std::as_writable_bytes(std::span(digest.digest)));
}

}  // namespace cairn::encryption
