// New LUKS2 headers.
#include "formats/encryption/luks2_create.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/base64.h"
#include "base/bytes.h"
#include "crypto/cipher.h"
#include "crypto/hash.h"
#include "formats/encryption/luks1_header.h"
#include "formats/encryption/luks2_header.h"
#include "formats/encryption/luks2_keys.h"
#include "formats/encryption/uuid.h"

namespace cairn::encryption {
namespace {

using schema::JsonArray;
using schema::JsonObject;
using schema::JsonValue;

// As other writers lay it out: two copies of 16 KiB, key material up to 16 MiB, the disk.
constexpr uint64_t kCopyBytes = 16384;
constexpr uint64_t kFirstAreaOffset = 2 * kCopyBytes;
constexpr uint64_t kAreaUnit = 4096;

JsonObject describe_segment(const LuksParameters& parameters, bool detached) {
  JsonObject segment;
  segment.add("type", "crypt");
  segment.add("offset", std::to_string(detached ? 0 : kLuks2HeaderLength));
  segment.add("size", "dynamic");
  segment.add("iv_tweak", "0");
  segment.add("encryption", fmt::format("{}-{}", family_of(parameters.cipher.cipher),
                                        mode_text(parameters.cipher)));
  segment.add("sector_size", parameters.cipher.sector_size);
  JsonObject segments;
  segments.add("0", std::move(segment));
  return segments;
}

JsonObject describe_digest(const Luks2Digest& digest) {
  JsonObject object;
  object.add("type", "pbkdf2");
  object.add("keyslots", JsonArray{JsonValue("0")});
  object.add("segments", JsonArray{JsonValue("0")});
  object.add("hash", name_of(digest.hash));
  object.add("iterations", digest.iterations);
  object.add("salt", encode_base64(digest.salt));
  object.add("digest", encode_base64(digest.digest));
  JsonObject digests;
  digests.add("0", std::move(object));
  return digests;
}

Luks2Slot first_slot(const LuksParameters& parameters) {
  Luks2Slot slot;
  slot.key_bytes = parameters.key_bytes();
  slot.hash = parameters.hash;
  slot.area_offset = kFirstAreaOffset;
  slot.area_length = align_up(uint64_t{slot.key_bytes} * Luks2Metadata::kStripes, kAreaUnit);
  slot.cipher = parameters.cipher;
  slot.cipher.sector_size = kLuksSector;
  slot.cipher.iv_step = 1;
  slot.cipher_key_bytes = slot.key_bytes;
  slot.kdf.type = parameters.kdf;
  slot.kdf.hash = parameters.hash;
  slot.kdf.memory = parameters.kdf_memory;
  slot.kdf.lanes = parameters.kdf_lanes;
  return slot;
}

}  // namespace

Result<std::vector<std::byte>> make_luks2_header(const LuksParameters& parameters,
                                                 std::span<const std::byte> password,
                                                 bool detached) {
  crypto::SecretBytes key(parameters.key_bytes());
  Luks2Slot slot = first_slot(parameters);
  Luks2Digest digest;
  digest.hash = parameters.hash;
  Result<std::string> uuid = make_uuid();
  Result<void> result = uuid ? Result<void>{} : Result<void>(pass(uuid));
  if (result) {
    result = crypto::random_bytes(key.span());
  }
  if (result) {
    // A cipher that is not there is found out before anybody waits for the rest.
    auto cipher = crypto::make_sector_cipher(parameters.cipher, key.span());
    result = cipher ? Result<void>{} : Result<void>(pass(cipher));
  }
  if (result) {
    result = set_luks2_digest(digest, key.span(), parameters.milliseconds);
  }
  if (result) {
    result = prepare_kdf(slot.kdf, slot.key_bytes, parameters.milliseconds);
  }
  if (!result) {
    return pass(result);
  }
  const Result<std::vector<std::byte>> material = seal_luks2_slot(slot, key.span(), password);
  if (!material) {
    return std::unexpected(material.error());
  }
  JsonObject keyslots;
  keyslots.add("0", describe_luks2_slot(slot, fmt::format("{}-{}", family_of(slot.cipher.cipher),
                                                          mode_text(slot.cipher))));
  JsonObject config;
  config.add("json_size", std::to_string(kCopyBytes - Luks2Header::kBinaryBytes));
  config.add("keyslots_size", std::to_string(kLuks2HeaderLength - kFirstAreaOffset));
  Luks2Header header;
  header.start(kCopyBytes, *uuid);
  header.json.add("keyslots", std::move(keyslots));
  header.json.add("tokens", JsonObject());
  header.json.add("segments", describe_segment(parameters, detached));
  header.json.add("digests", describe_digest(digest));
  header.json.add("config", std::move(config));
  std::vector<std::byte> bytes;
  for (const bool second : {false, true}) {
    const Result<std::vector<std::byte>> copy = serialize_luks2_copy(header, second);
    if (!copy) {
      return std::unexpected(copy.error());
    }
    bytes.insert(bytes.end(), copy->begin(), copy->end());
  }
  bytes.insert(bytes.end(), material->begin(), material->end());
  return bytes;
}

}  // namespace cairn::encryption
