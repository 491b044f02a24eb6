#include "formats/encryption/luks1_header.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/bytes.h"

namespace cairn::encryption {
namespace {

// Offsets of the fields, in bytes.
constexpr std::size_t kVersion = 6;
constexpr std::size_t kCipherName = 8;
constexpr std::size_t kCipherMode = 40;
constexpr std::size_t kHashName = 72;
constexpr std::size_t kNameLength = 32;
constexpr std::size_t kPayload = 104;
constexpr std::size_t kKeyBytes = 108;
constexpr std::size_t kKeyDigest = 112;
constexpr std::size_t kKeyDigestSalt = 132;
constexpr std::size_t kKeyDigestIterations = 164;
constexpr std::size_t kUuid = 168;
constexpr std::size_t kUuidLength = 40;
constexpr std::size_t kFirstSlot = 208;
constexpr std::size_t kSlotBytes = 48;
// Within a slot.
constexpr std::size_t kSlotIterations = 4;
constexpr std::size_t kSlotSalt = 8;
constexpr std::size_t kSlotMaterial = 40;
constexpr std::size_t kSlotStripes = 44;

constexpr uint32_t kSlotActive = 0x00ac71f3;
constexpr uint32_t kSlotInactive = 0x0000dead;
constexpr uint64_t kAlignment = 4096;

uint32_t number_at(std::span<const std::byte> bytes, std::size_t offset) {
  return load_be<uint32_t>(bytes.data() + offset);
}

// Up to the first NUL; nothing when there is none.
std::optional<std::string> text_at(std::span<const std::byte> bytes, std::size_t offset,
                                   std::size_t length) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data() + offset), length);
  const std::size_t end = text.find('\0');
  return end == text.npos ? std::nullopt : std::optional<std::string>(text.substr(0, end));
}

void put_text(std::vector<std::byte>& bytes, std::size_t offset, std::string_view text) {
  std::memcpy(bytes.data() + offset, text.data(), text.size());
}

Result<Luks1Slot> parse_slot(std::span<const std::byte> bytes, std::size_t index) {
  const std::span<const std::byte> raw = bytes.subspan(kFirstSlot + index * kSlotBytes, kSlotBytes);
  const uint32_t state = number_at(raw, 0);
  if (state != kSlotActive && state != kSlotInactive) {
    return fail(EINVAL, "Keyslot {} state (active/disable) is corrupted", index);
  }
  Luks1Slot slot;
  slot.active = state == kSlotActive;
  slot.iterations = number_at(raw, kSlotIterations);
  std::memcpy(slot.salt.data(), raw.data() + kSlotSalt, slot.salt.size());
  slot.material_sector = number_at(raw, kSlotMaterial);
  if (slot.active && slot.iterations == 0) {
    return fail(EINVAL, "Keyslot {} iteration count is zero", index);
  }
  if (slot.active && slot.iterations > Luks1Header::kMostIterations) {
    return fail(EINVAL, "Keyslot {} iteration count {} is too large", index, slot.iterations);
  }
  if (const uint32_t stripes = number_at(raw, kSlotStripes); stripes != Luks1Header::kStripes) {
    return fail(EINVAL, "Keyslot {} is corrupted (stripes {} != {})", index, stripes,
                Luks1Header::kStripes);
  }
  return slot;
}

// Key material lies behind the header, before the payload, and nowhere twice.
Result<void> check_layout(const Luks1Header& header, bool detached) {
  const uint64_t header_sectors = div_round_up(Luks1Header::kBytes, kLuksSector);
  const uint64_t material_sectors = div_round_up(header.material_bytes(), kLuksSector);
  for (std::size_t i = 0; i < Luks1Header::kSlots; ++i) {
    const uint64_t begin = header.slots[i].material_sector;
    if (begin < header_sectors) {
      return fail(EINVAL, "Keyslot {} is overlapping with the LUKS header", i);
    }
    if (!detached && begin + material_sectors > header.payload_sector) {
      return fail(EINVAL, "Keyslot {} is overlapping with the encrypted payload", i);
    }
    for (std::size_t j = i + 1; j < Luks1Header::kSlots; ++j) {
      const uint64_t other = header.slots[j].material_sector;
      if (begin < other + material_sectors && other < begin + material_sectors) {
        return fail(EINVAL, "Keyslots {} and {} are overlapping in the header", i, j);
      }
    }
  }
  return {};
}

Result<void> parse_algorithms(std::span<const std::byte> bytes, Luks1Header& header) {
  const auto family = text_at(bytes, kCipherName, kNameLength);
  const auto mode = text_at(bytes, kCipherMode, kNameLength);
  const auto hash = text_at(bytes, kHashName, kNameLength);
  const Result<crypto::SectorCipherParameters> cipher =
      parse_cipher(family.value_or(""), mode.value_or(""), header.key_bytes);
  if (!cipher) {
    return std::unexpected(cipher.error());
  }
  const auto known_hash = crypto::find_hash(hash.value_or(""));
  if (!known_hash) {
    return fail(ENOTSUP, "Hash algorithm '{}' not supported", hash.value_or(""));
  }
  header.cipher = *cipher;
  header.hash = *known_hash;
  return {};
}

Result<void> check_texts(std::span<const std::byte> bytes) {
  struct Field {
    std::size_t offset;
    std::string_view name;
  };
  for (const Field& field : {Field{kCipherName, "cipher name"}, Field{kCipherMode, "cipher mode"},
                             Field{kHashName, "hash spec"}}) {
    if (!text_at(bytes, field.offset, kNameLength)) {
      return fail(EINVAL, "LUKS header {} is not NUL terminated", field.name);
    }
  }
  return {};
}

}  // namespace

std::size_t Luks1Header::active_slots() const {
  return static_cast<std::size_t>(std::ranges::count(slots, true, &Luks1Slot::active));
}

unsigned luks_version(std::span<const std::byte> head) {
  if (head.size() < kVersion + 2 || std::memcmp(head.data(), kLuksMagic.data(), kVersion) != 0) {
    return 0;
  }
  return load_be<uint16_t>(head.data() + kVersion);
}

Result<Luks1Header> parse_luks1_header(std::span<const std::byte> bytes, bool detached) {
  if (auto texts = check_texts(bytes); !texts) {
    return pass(texts);
  }
  Luks1Header header;
  header.payload_sector = number_at(bytes, kPayload);
  header.key_bytes = number_at(bytes, kKeyBytes);
  header.key_digest_iterations = number_at(bytes, kKeyDigestIterations);
  std::memcpy(header.key_digest.data(), bytes.data() + kKeyDigest, header.key_digest.size());
  std::memcpy(header.key_digest_salt.data(), bytes.data() + kKeyDigestSalt,
              header.key_digest_salt.size());
  header.uuid =
      text_at(bytes, kUuid, kUuidLength)
          .value_or(std::string(reinterpret_cast<const char*>(bytes.data() + kUuid), kUuidLength));
  if (!detached && header.payload_sector < div_round_up(Luks1Header::kBytes, kLuksSector)) {
    return fail(EINVAL, "LUKS payload is overlapping with the header");
  }
  if (header.key_digest_iterations == 0) {
    return fail(EINVAL, "LUKS key iteration count is zero");
  }
  if (header.key_digest_iterations > Luks1Header::kMostIterations) {
    return fail(EINVAL, "LUKS key iteration count {} is too large", header.key_digest_iterations);
  }
  for (std::size_t i = 0; i < Luks1Header::kSlots; ++i) {
    Result<Luks1Slot> slot = parse_slot(bytes, i);
    if (!slot) {
      return pass(slot);
    }
    header.slots[i] = *slot;
  }
  if (auto layout = check_layout(header, detached); !layout) {
    return pass(layout);
  }
  if (auto algorithms = parse_algorithms(bytes, header); !algorithms) {
    return pass(algorithms);
  }
  return header;
}

std::vector<std::byte> serialize_luks1_header(const Luks1Header& header) {
  std::vector<std::byte> bytes(Luks1Header::kBytes);
  const auto put = [&bytes](std::size_t offset, uint32_t value) {
    store_be(bytes.data() + offset, value);
  };
  std::memcpy(bytes.data(), kLuksMagic.data(), kLuksMagic.size());
  store_be<uint16_t>(bytes.data() + kVersion, 1);
  put_text(bytes, kCipherName, family_of(header.cipher.cipher));
  put_text(bytes, kCipherMode, mode_text(header.cipher));
  put_text(bytes, kHashName, name_of(header.hash));
  put(kPayload, header.payload_sector);
  put(kKeyBytes, header.key_bytes);
  std::memcpy(bytes.data() + kKeyDigest, header.key_digest.data(), header.key_digest.size());
  std::memcpy(bytes.data() + kKeyDigestSalt, header.key_digest_salt.data(),
              header.key_digest_salt.size());
  put(kKeyDigestIterations, header.key_digest_iterations);
  put_text(bytes, kUuid, std::string_view(header.uuid).substr(0, kUuidLength));
  for (std::size_t i = 0; i < Luks1Header::kSlots; ++i) {
    const Luks1Slot& slot = header.slots[i];
    const std::size_t at = kFirstSlot + i * kSlotBytes;
    put(at, slot.active ? kSlotActive : kSlotInactive);
    put(at + kSlotIterations, slot.iterations);
    std::memcpy(bytes.data() + at + kSlotSalt, slot.salt.data(), slot.salt.size());
    put(at + kSlotMaterial, slot.material_sector);
    put(at + kSlotStripes, Luks1Header::kStripes);
  }
  return bytes;
}

std::string mode_text(const crypto::SectorCipherParameters& cipher) {
  std::string text = fmt::format("{}-{}", name_of(cipher.mode), name_of(cipher.iv_generator));
  if (cipher.iv_generator == crypto::IvGenerator::kEssiv) {
    text += fmt::format(":{}", name_of(cipher.iv_hash));
  }
  return text;
}

Result<crypto::SectorCipherParameters> parse_cipher(std::string_view family, std::string_view mode,
                                                    uint32_t key_bytes) {
  crypto::SectorCipherParameters cipher;
  const std::size_t dash = mode.find('-');
  if (dash == mode.npos && mode != "ecb") {
    return fail(EINVAL, "Unexpected cipher mode string format '{}'", mode);
  }
  const std::string_view chaining = mode.substr(0, dash);
  std::string_view generator = dash == mode.npos ? "plain64" : mode.substr(dash + 1);
  std::string_view hash;
  if (const std::size_t colon = generator.find(':'); colon != generator.npos) {
    hash = generator.substr(colon + 1);
    generator = generator.substr(0, colon);
    const auto found = crypto::find_hash(hash);
    if (!found) {
      return fail(ENOTSUP, "Hash algorithm '{}' not supported", hash);
    }
    cipher.iv_hash = *found;
  }
  const auto found_mode = crypto::find_cipher_mode(chaining);
  if (!found_mode) {
    return fail(ENOTSUP, "Cipher mode '{}' not supported", chaining);
  }
  cipher.mode = *found_mode;
  const bool is_xts = cipher.mode == crypto::CipherMode::kXts;
  const uint32_t cipher_key = is_xts ? key_bytes / 2 : key_bytes;
  const auto found_cipher = crypto::find_cipher(family, cipher_key);
  if (!found_cipher) {
    return fail(ENOTSUP, "Algorithm '{}' with key size {} bytes not supported", family, cipher_key);
  }
  if (is_xts && key_bytes % 2 != 0) {
    return fail(EINVAL, "XTS cipher key length should be a multiple of 2");
  }
  cipher.cipher = *found_cipher;
  const auto found_generator = crypto::find_iv_generator(generator);
  if (!found_generator) {
    return fail(ENOTSUP, "IV generator '{}' not supported", generator);
  }
  cipher.iv_generator = *found_generator;
  if (cipher.iv_generator == crypto::IvGenerator::kEssiv && hash.empty()) {
    return fail(EINVAL, "IV generator 'essiv' needs a hash, as in 'essiv:sha256'");
  }
  return cipher;
}

Luks1Layout Luks1Layout::compute(uint32_t key_bytes) {
  Luks1Layout layout;
  const uint64_t area = align_up(uint64_t{key_bytes} * Luks1Header::kStripes, kAlignment);
  layout.payload = kAlignment;
  for (uint64_t& begin : layout.material) {
    begin = layout.payload;
    layout.payload += area;
  }
  return layout;
}

}  // namespace cairn::encryption
