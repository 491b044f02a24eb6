#include "formats/encryption/luks1_keys.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/bytes.h"
#include "crypto/anti_forensic.h"
#include "crypto/hash.h"

namespace cairn::encryption {
namespace {

constexpr uint32_t kLeastIterations = 1000;
constexpr uint64_t kDigestShare = 8;  // of the time that a slot takes

Result<void> digest_of(const Luks1Header& header, std::span<const std::byte> key,
                       std::span<std::byte> digest) {
  return crypto::pbkdf2(header.hash, key, header.key_digest_salt, header.key_digest_iterations,
                        digest);
}

// The cipher that a slot's material is encrypted with: the disk's, with the password's key.
Result<std::unique_ptr<crypto::SectorCipher>> slot_cipher(const Luks1Header& header,
                                                          const Luks1Slot& slot,
                                                          Password password) {
  crypto::SecretBytes key(header.key_bytes);
  Result<void> derived =
      crypto::pbkdf2(header.hash, password, slot.salt, slot.iterations, key.span());
  if (!derived) {
    return pass(derived);
  }
  return crypto::make_sector_cipher(header.cipher, key.span());
}

}  // namespace

std::size_t stored_material_bytes(const Luks1Header& header) {
  return align_up(header.material_bytes(), kLuksSector);
}

Result<std::optional<crypto::SecretBytes>> open_slot(const Luks1Header& header,
                                                     const Luks1Slot& slot,
                                                     std::span<const std::byte> material,
                                                     Password password) {
  const auto cipher = slot_cipher(header, slot, password);
  if (!cipher) {
    return std::unexpected(cipher.error());
  }
  crypto::SecretBytes plain(material.size());
  Result<void> result = (*cipher)->decrypt(0, material, plain.span());
  crypto::SecretBytes key(header.key_bytes);
  if (result) {
    result = crypto::merge_key(header.hash, Luks1Header::kStripes,
                               plain.span().first(header.material_bytes()), key.span());
  }
  std::array<std::byte, Luks1Header::kDigest> digest{};
  if (result) {
    result = digest_of(header, key.span(), digest);
  }
  if (!result) {
    return pass(result);
  }
  std::optional<crypto::SecretBytes> found;
  if (crypto::same_bytes(digest, header.key_digest)) {
    found = std::move(key);
  }
  return found;
}

Result<std::vector<std::byte>> seal_slot(const Luks1Header& header, const Luks1Slot& slot,
                                         std::span<const std::byte> key, Password password) {
  const auto cipher = slot_cipher(header, slot, password);
  if (!cipher) {
    return std::unexpected(cipher.error());
  }
  crypto::SecretBytes plain(stored_material_bytes(header));
  std::vector<std::byte> material(plain.size());
  Result<void> result = crypto::split_key(header.hash, Luks1Header::kStripes, key,
                                          plain.span().first(header.material_bytes()));
  if (result) {
    result = (*cipher)->encrypt(0, plain.span(), material);
  }
  if (!result) {
    return pass(result);
  }
  return material;
}

Result<void> set_key_digest(Luks1Header& header, std::span<const std::byte> key,
                            uint64_t milliseconds) {
  Result<uint32_t> iterations = crypto::pbkdf2_iterations(
      header.hash, Luks1Header::kDigest, milliseconds / kDigestShare, kLeastIterations);
  if (!iterations) {
    return pass(iterations);
  }
  header.key_digest_iterations = std::min(*iterations, Luks1Header::kMostIterations);
  Result<void> result = crypto::random_bytes(header.key_digest_salt);
  return result ? digest_of(header, key, header.key_digest) : result;
}

Result<void> prepare_slot(const Luks1Header& header, Luks1Slot& slot, uint64_t milliseconds) {
  Result<uint32_t> iterations =
      crypto::pbkdf2_iterations(header.hash, header.key_bytes, milliseconds, kLeastIterations);
  if (!iterations) {
    return pass(iterations);
  }
  slot.iterations = std::min(*iterations, Luks1Header::kMostIterations);
  return crypto::random_bytes(slot.salt);
}

}  // namespace cairn::encryption
