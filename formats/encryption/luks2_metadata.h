// What the JSON area of a LUKS2 header says (specification 1.1, section 3), as far as it is used
// here: the segment with the disk, the key slots, the digest of the master key. All the rest,
// tokens above all, stays in the JSON as it was.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "crypto/sector_cipher.h"
#include "schema/json.h"

namespace cairn::encryption {

// How a password becomes a key.
struct Luks2Kdf {
  enum class Type : uint8_t { kPbkdf2, kArgon2i, kArgon2id };
  Type type = Type::kPbkdf2;
  crypto::Hash hash = crypto::Hash::kSha256;  // of PBKDF2
  uint32_t iterations = 0;                    // of PBKDF2; of Argon2 the passes over its memory
  uint32_t memory = 0;                        // KiB
  uint32_t lanes = 0;
  std::string salt;
};

struct Luks2Slot {
  uint32_t index = 0;
  uint32_t key_bytes = 0;
  crypto::Hash hash = crypto::Hash::kSha256;  // of the anti-forensic splitter
  uint64_t area_offset = 0;                   // bytes
  uint64_t area_length = 0;
  crypto::SectorCipherParameters cipher;  // of the key material
  uint32_t cipher_key_bytes = 0;
  Luks2Kdf kdf;
};

struct Luks2Digest {
  std::string name;  // within "digests"
  crypto::Hash hash = crypto::Hash::kSha256;
  uint32_t iterations = 0;
  std::string salt;
  std::string digest;
  std::vector<uint32_t> slots;
};

struct Luks2Metadata {
  static constexpr uint32_t kSlots = 32;
  static constexpr uint32_t kStripes = 4000;
  // More would keep a processor busy for minutes, or take the machine's memory; whoever writes such
  // a header means harm.
  static constexpr uint32_t kMostIterations = 1u << 28;
  static constexpr uint32_t kMostPasses = 1024;
  static constexpr uint32_t kMostMemory = 4u << 20;  // KiB
  static constexpr uint32_t kMostLanes = 4;
  static constexpr uint32_t kMostKeyBytes = 128;

  uint64_t payload_offset = 0;             // bytes
  std::optional<uint64_t> payload_length;  // nothing: up to the end of the file
  std::string segment;                     // its name
  std::string encryption;                  // "aes-xts-plain64"
  crypto::SectorCipherParameters cipher;   // sector_size and iv_step are set
  uint64_t first_number = 0;               // of a sector, in units of 512 bytes
  uint32_t key_bytes = 0;
  Luks2Digest digest;            // of the segment's key
  std::vector<Luks2Slot> slots;  // that hold this key, in order of their priority and number
  std::vector<uint32_t> taken;   // numbers of all slots there are
  struct Area {
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  std::vector<Area> areas;  // of all slots
  Area room;                // where areas may lie
};

// `header_bytes`: of one copy. EINVAL for what contradicts the specification, ENOTSUP, with the
// names, for what is needed and not known here.
[[nodiscard]] Result<Luks2Metadata> parse_luks2_metadata(const schema::JsonObject& json,
                                                         uint64_t header_bytes, bool detached);

// The JSON of a slot, as the specification has it.
[[nodiscard]] schema::JsonValue describe_luks2_slot(const Luks2Slot& slot,
                                                    std::string_view encryption);

// "aes-xts-plain64" taken apart, for a key of so many bytes.
[[nodiscard]] Result<crypto::SectorCipherParameters> parse_encryption_name(std::string_view name,
                                                                           uint32_t key_bytes);

[[nodiscard]] std::string_view name_of(Luks2Kdf::Type type);
// Their names, in the order of their values.
[[nodiscard]] std::span<const std::string_view> luks2_kdf_names();

}  // namespace cairn::encryption
