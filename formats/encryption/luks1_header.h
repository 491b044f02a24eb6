// The header of LUKS version 1 (on-disk format specification 1.2.3, section 3): its fields, and
// whether they make sense. The bytes come from images, so nothing is used before it was checked.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "crypto/sector_cipher.h"

namespace cairn::encryption {

constexpr std::array<uint8_t, 6> kLuksMagic = {'L', 'U', 'K', 'S', 0xba, 0xbe};
constexpr uint32_t kLuksSector = 512;

struct Luks1Slot {
  bool active = false;
  uint32_t iterations = 0;
  std::array<std::byte, 32> salt{};
  uint32_t material_sector = 0;  // where the key material begins
};

struct Luks1Header {
  static constexpr std::size_t kBytes = 592;
  static constexpr std::size_t kSlots = 8;
  static constexpr uint32_t kStripes = 4000;
  static constexpr std::size_t kDigest = 20;
  // More would keep a processor busy for minutes; whoever writes such a header means harm.
  static constexpr uint32_t kMostIterations = 1u << 28;

  crypto::SectorCipherParameters cipher;
  crypto::Hash hash = crypto::Hash::kSha256;
  uint32_t payload_sector = 0;
  uint32_t key_bytes = 0;
  std::array<std::byte, kDigest> key_digest{};
  std::array<std::byte, 32> key_digest_salt{};
  uint32_t key_digest_iterations = 0;
  std::string uuid;
  std::array<Luks1Slot, kSlots> slots;

  // Bytes that a slot's key material takes.
  [[nodiscard]] uint64_t material_bytes() const { return uint64_t{key_bytes} * kStripes; }
  [[nodiscard]] std::size_t active_slots() const;
};

// Whether the bytes begin as a LUKS header does, and of which version; 0 when they do not.
[[nodiscard]] unsigned luks_version(std::span<const std::byte> head);

// `bytes` has kBytes of them. `detached`: the header has a file of its own, so that the payload may
// begin anywhere. EINVAL with what is wrong; ENOTSUP for algorithms that nobody knows here.
[[nodiscard]] Result<Luks1Header> parse_luks1_header(std::span<const std::byte> bytes,
                                                     bool detached);
[[nodiscard]] std::vector<std::byte> serialize_luks1_header(const Luks1Header& header);

// The name of the mode with its initialisation vectors, as headers have it: "xts-plain64",
// "cbc-essiv:sha256".
[[nodiscard]] std::string mode_text(const crypto::SectorCipherParameters& cipher);
// The opposite, for a cipher of a family and a key of so many bytes.
[[nodiscard]] Result<crypto::SectorCipherParameters> parse_cipher(std::string_view family,
                                                                  std::string_view mode,
                                                                  uint32_t key_bytes);

// Where the key material of each slot and then the payload begin in a new volume, in bytes.
struct Luks1Layout {
  std::array<uint64_t, Luks1Header::kSlots> material{};
  uint64_t payload = 0;

  [[nodiscard]] static Luks1Layout compute(uint32_t key_bytes);
};

}  // namespace cairn::encryption
