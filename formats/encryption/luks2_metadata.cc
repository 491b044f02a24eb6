#include "formats/encryption/luks2_metadata.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>

#include "base/base64.h"
#include "base/bytes.h"
#include "formats/encryption/luks1_header.h"

namespace cairn::encryption {
namespace {

using schema::JsonArray;
using schema::JsonObject;
using schema::JsonValue;

constexpr std::array<std::string_view, 3> kKdfNames = {"pbkdf2", "argon2i", "argon2id"};

std::unexpected<Error> damaged(std::string_view what) {
  return fail(EINVAL, "The metadata of the LUKS2 header is damaged: {}", what);
}

std::optional<uint64_t> parse_digits(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc{} && end == text.data() + text.size() && !text.empty();
  return whole ? std::optional(value) : std::nullopt;
}

// Reads members of one object; the first that is missing, or wrong, counts.
class Members {
 public:
  Members(const JsonObject& object, std::string_view where) : object_(object), where_(where) {}

  const JsonObject& object(std::string_view name) {
    static const JsonObject kNone;
    const JsonValue* value = object_.find(name);
    return value != nullptr && value->as_object() != nullptr ? *value->as_object()
                                                             : (refuse(name), kNone);
  }
  std::string text(std::string_view name) {
    const JsonValue* value = object_.find(name);
    return value != nullptr && value->as_string() != nullptr ? *value->as_string()
                                                             : (refuse(name), std::string());
  }
  // Numbers that need more than 53 bits are texts in this format.
  uint64_t large(std::string_view name) {
    const std::optional<uint64_t> value = parse_digits(text(name));
    return value && *value <= static_cast<uint64_t>(INT64_MAX) ? *value : (refuse(name), 0);
  }
  uint32_t number(std::string_view name, uint32_t least, uint32_t most) {
    const JsonValue* value = object_.find(name);
    const int64_t* integer = value != nullptr ? value->as_int64() : nullptr;
    const bool good = integer != nullptr && *integer >= least && *integer <= most;
    return good ? static_cast<uint32_t>(*integer) : (refuse(name), 0);
  }
  std::string bytes(std::string_view name) {
    Result<std::string> decoded = decode_base64(text(name));
    return decoded ? std::move(*decoded) : (refuse(name), std::string());
  }
  crypto::Hash hash(std::string_view name) {
    const std::string wanted = text(name);
    const auto found = crypto::find_hash(wanted);
    if (!found && error_.empty()) {
      error_ = fmt::format("hash '{}' is not known", wanted);
    }
    return found.value_or(crypto::Hash::kSha256);
  }
  void refuse(std::string_view name) {
    if (error_.empty()) {
      error_ = fmt::format("'{}' of {}", name, where_);
    }
  }
  [[nodiscard]] Result<void> result() const {
    return error_.empty() ? Result<void>{} : Result<void>(damaged(error_));
  }

 private:
  const JsonObject& object_;
  std::string_view where_;
  std::string error_;
};

std::vector<std::string> texts(const JsonValue* value) {
  std::vector<std::string> found;
  if (value != nullptr && value->as_array() != nullptr) {
    for (const JsonValue& element : *value->as_array()) {
      if (const std::string* text = element.as_string()) {
        found.push_back(*text);
      }
    }
  }
  return found;
}

// Features that have to be understood (section 3.5): none are.
Result<void> check_requirements(const JsonObject& config) {
  const JsonValue* requirements = config.find("requirements");
  if (requirements == nullptr || requirements->as_object() == nullptr) {
    return {};
  }
  std::string names;
  for (const std::string& name : texts(requirements->as_object()->find("mandatory"))) {
    names += (names.empty() ? "" : ", ") + name;
  }
  return names.empty() ? Result<void>{}
                       : Result<void>(fail(ENOTSUP, "Unsupported LUKS2 requirement(s): {}", names));
}

Result<Luks2Kdf> parse_kdf(const JsonObject& object) {
  Members members(object, "a keyslot's kdf");
  const std::string type = members.text("type");
  const auto found = std::ranges::find(kKdfNames, type);
  if (found == kKdfNames.end()) {
    return fail(ENOTSUP, "Key derivation '{}' of a LUKS2 keyslot is not supported", type);
  }
  Luks2Kdf kdf;
  kdf.type = static_cast<Luks2Kdf::Type>(found - kKdfNames.begin());
  kdf.salt = members.bytes("salt");
  if (kdf.type == Luks2Kdf::Type::kPbkdf2) {
    kdf.hash = members.hash("hash");
    kdf.iterations = members.number("iterations", 1, Luks2Metadata::kMostIterations);
  } else {
    kdf.iterations = members.number("time", 1, Luks2Metadata::kMostPasses);
    kdf.lanes = members.number("cpus", 1, Luks2Metadata::kMostLanes);
    kdf.memory = members.number("memory", 8, Luks2Metadata::kMostMemory);
  }
  if (auto good = members.result(); !good) {
    return pass(good);
  }
  return kdf;
}

Result<Luks2Slot> parse_slot(const JsonObject& object, uint32_t index) {
  Members members(object, "a keyslot");
  Luks2Slot slot;
  slot.index = index;
  slot.key_bytes = members.number("key_size", 1, Luks2Metadata::kMostKeyBytes);
  Members af(members.object("af"), "a keyslot's af");
  slot.hash = af.hash("hash");
  if (af.text("type") != "luks1" ||
      af.number("stripes", 1, UINT16_MAX) != Luks2Metadata::kStripes) {
    af.refuse("type");
  }
  Members area(members.object("area"), "a keyslot's area");
  slot.area_offset = area.large("offset");
  slot.area_length = area.large("size");
  slot.cipher_key_bytes = area.number("key_size", 1, Luks2Metadata::kMostKeyBytes);
  const std::string encryption = area.text("encryption");
  for (const Members* part : {&members, &af, &area}) {
    if (auto good = part->result(); !good) {
      return pass(good);
    }
  }
  const uint64_t needed = align_up(uint64_t{slot.key_bytes} * Luks2Metadata::kStripes, kLuksSector);
  if (area.text("type") != "raw" || needed > slot.area_length) {
    return damaged("a keyslot's area");
  }
  auto cipher = parse_encryption_name(encryption, slot.cipher_key_bytes);
  if (!cipher) {
    return pass(cipher);
  }
  slot.cipher = *cipher;
  Result<Luks2Kdf> kdf = parse_kdf(members.object("kdf"));
  if (!kdf) {
    return pass(kdf);
  }
  slot.kdf = std::move(*kdf);
  return slot;
}

Result<void> parse_segment(const JsonObject& json, Luks2Metadata& metadata) {
  const JsonValue* value = json.find("segments");
  const JsonObject* segments = value != nullptr ? value->as_object() : nullptr;
  if (segments == nullptr || segments->size() != 1 ||
      segments->begin()->second.as_object() == nullptr) {
    return fail(ENOTSUP, "LUKS2 volumes with other than one segment are not supported");
  }
  metadata.segment = segments->begin()->first;
  const JsonObject& object = *segments->begin()->second.as_object();
  Members members(object, "the segment");
  if (members.text("type") != "crypt") {
    return fail(ENOTSUP, "LUKS2 segments of type '{}' are not supported", members.text("type"));
  }
  if (object.find("integrity") != nullptr) {
    return fail(ENOTSUP, "LUKS2 volumes with integrity are not supported");
  }
  metadata.payload_offset = members.large("offset");
  if (members.text("size") != "dynamic") {
    metadata.payload_length = members.large("size");
  }
  metadata.first_number = members.large("iv_tweak");
  metadata.encryption = members.text("encryption");
  const uint32_t sector = members.number("sector_size", 512, 4096);
  if (!std::has_single_bit(sector)) {
    members.refuse("sector_size");
  }
  if (metadata.payload_offset % kLuksSector != 0 ||
      metadata.payload_length.value_or(0) % std::max(sector, 1u) != 0) {
    members.refuse("offset");
  }
  metadata.cipher.sector_size = sector;
  return members.result();
}

std::optional<uint32_t> slot_number(std::string_view name) {
  const std::optional<uint64_t> value = parse_digits(name);
  const bool canonical = value && std::to_string(*value) == name;
  return canonical && *value < Luks2Metadata::kSlots ? std::optional(static_cast<uint32_t>(*value))
                                                     : std::nullopt;
}

// The digest that is for the segment, and the slots whose key it recognizes.
Result<void> parse_digest(const JsonObject& json, Luks2Metadata& metadata) {
  Members members(json, "the metadata");
  for (const auto& [name, value] : members.object("digests")) {
    const JsonObject* object = value.as_object();
    if (object == nullptr ||
        std::ranges::count(texts(object->find("segments")), metadata.segment) == 0) {
      continue;
    }
    Members digest(*object, "the digest");
    if (digest.text("type") != "pbkdf2") {
      return fail(ENOTSUP, "LUKS2 digests of type '{}' are not supported", digest.text("type"));
    }
    metadata.digest.name = name;
    metadata.digest.hash = digest.hash("hash");
    metadata.digest.iterations = digest.number("iterations", 1, Luks2Metadata::kMostIterations);
    metadata.digest.salt = digest.bytes("salt");
    metadata.digest.digest = digest.bytes("digest");
    const JsonValue* listed = object->find("keyslots");
    if (listed == nullptr || listed->as_array() == nullptr) {
      return damaged("a digest's keyslots");
    }
    for (const std::string& slot : texts(listed)) {
      const auto index = slot_number(slot);
      if (!index) {
        return damaged("a digest's keyslots");
      }
      metadata.digest.slots.push_back(*index);
    }
    if (metadata.digest.digest.size() < 16) {
      digest.refuse("digest");
    }
    return digest.result();
  }
  return damaged("no digest for the segment");
}

// Key material lies behind both copies of the header, in front of the disk, and nowhere twice.
Result<void> check_areas(const Luks2Metadata& metadata) {
  std::vector<Luks2Metadata::Area> areas = metadata.areas;
  std::ranges::sort(areas, {}, &Luks2Metadata::Area::begin);
  uint64_t end = metadata.room.begin;
  for (const Luks2Metadata::Area& area : areas) {
    if (area.begin < end || area.end > metadata.room.end) {
      return damaged("areas of keyslots overlap with something");
    }
    end = area.end;
  }
  return {};
}

Result<void> parse_slots(const JsonObject& json, Luks2Metadata& metadata) {
  Members members(json, "the metadata");
  for (const auto& [name, value] : members.object("keyslots")) {
    const std::optional<uint32_t> index = slot_number(name);
    const JsonObject* object = value.as_object();
    if (!index || object == nullptr) {
      return damaged("the name of a keyslot");
    }
    metadata.taken.push_back(*index);
    Members slot(*object, "a keyslot");
    Members area(slot.object("area"), "a keyslot's area");
    const uint64_t begin = area.large("offset");
    const uint64_t length = area.large("size");
    if (auto good = area.result(); !good) {
      return good;
    }
    metadata.areas.push_back({.begin = begin, .end = begin + length});
    if (slot.text("type") != "luks2" || std::ranges::count(metadata.digest.slots, *index) == 0) {
      continue;  // of another kind, or for another key
    }
    Result<Luks2Slot> parsed = parse_slot(*object, *index);
    if (!parsed) {
      return pass(parsed);
    }
    metadata.slots.push_back(std::move(*parsed));
  }
  std::ranges::sort(metadata.slots, {}, &Luks2Slot::index);
  return members.result();
}

}  // namespace

std::span<const std::string_view> luks2_kdf_names() { return kKdfNames; }

std::string_view name_of(Luks2Kdf::Type type) { return kKdfNames[static_cast<std::size_t>(type)]; }

Result<crypto::SectorCipherParameters> parse_encryption_name(std::string_view name,
                                                             uint32_t key_bytes) {
  const std::size_t dash = name.find('-');
  if (dash == name.npos) {
    return fail(EINVAL, "Unexpected cipher string format '{}'", name);
  }
  return parse_cipher(name.substr(0, dash), name.substr(dash + 1), key_bytes);
}

Result<Luks2Metadata> parse_luks2_metadata(const JsonObject& json, uint64_t header_bytes,
                                           bool detached) {
  Luks2Metadata metadata;
  Members members(json, "the metadata");
  const JsonObject& config = members.object("config");
  Members sizes(config, "the configuration");
  metadata.room = {.begin = 2 * header_bytes,
                   .end = 2 * header_bytes + sizes.large("keyslots_size")};
  Result<void> result = check_requirements(config);
  for (const Members* part : {&members, &sizes}) {
    result = result ? part->result() : result;
  }
  for (auto* parse : {parse_segment, parse_digest, parse_slots}) {
    if (result) {
      result = parse(json, metadata);
    }
  }
  if (result && !detached && metadata.room.end > metadata.payload_offset) {
    result = damaged("the area of keyslots overlaps with the disk");
  }
  if (result) {
    result = check_areas(metadata);
  }
  if (!result) {
    return pass(result);
  }
  metadata.key_bytes = metadata.slots.empty() ? 0 : metadata.slots.front().key_bytes;
  if (metadata.slots.empty()) {
    return metadata;  // nothing opens it
  }
  const uint32_t sector = metadata.cipher.sector_size;
  auto cipher = parse_encryption_name(metadata.encryption, metadata.key_bytes);
  if (!cipher) {
    return pass(cipher);
  }
  metadata.cipher = *cipher;
  metadata.cipher.sector_size = sector;
  metadata.cipher.iv_step = sector / kLuksSector;
  return metadata;
}

JsonValue describe_luks2_slot(const Luks2Slot& slot, std::string_view encryption) {
  JsonObject af;
  af.add("type", "luks1");
  af.add("stripes", Luks2Metadata::kStripes);
  af.add("hash", name_of(slot.hash));
  JsonObject area;
  area.add("type", "raw");
  area.add("offset", std::to_string(slot.area_offset));
  area.add("size", std::to_string(slot.area_length));
  area.add("encryption", encryption);
  area.add("key_size", slot.cipher_key_bytes);
  JsonObject kdf;
  kdf.add("type", name_of(slot.kdf.type));
  if (slot.kdf.type == Luks2Kdf::Type::kPbkdf2) {
    kdf.add("hash", name_of(slot.kdf.hash));
    kdf.add("iterations", slot.kdf.iterations);
  } else {
    kdf.add("time", slot.kdf.iterations);
    kdf.add("memory", slot.kdf.memory);
    kdf.add("cpus", slot.kdf.lanes);
  }
  kdf.add("salt", encode_base64(slot.kdf.salt));
  JsonObject object;
  object.add("type", "luks2");
  object.add("key_size", slot.key_bytes);
  object.add("af", std::move(af));
  object.add("area", std::move(area));
  object.add("kdf", std::move(kdf));
  return object;
}

}  // namespace cairn::encryption
