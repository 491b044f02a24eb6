// A change of key slots is a change of the JSON area, which is there twice: a power cut at any time
// leaves one sound copy. Key material is on the disk before a slot names it, and is overwritten
// when none does any more.
#include "formats/encryption/luks2_volume.h"

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "base/bytes.h"
#include "crypto/cipher.h"
#include "crypto/hash.h"
#include "crypto/workers.h"
#include "formats/encryption/luks1_header.h"
#include "formats/encryption/luks2_keys.h"
#include "schema/types_crypto.h"

namespace cairn::encryption {
namespace {

using schema::JsonArray;
using schema::JsonObject;
using schema::JsonValue;

constexpr uint64_t kAreaAlignment = 4096;

JsonObject* object_in(JsonObject& object, std::string_view name) {
  JsonValue* value = object.find(name);
  return value != nullptr ? value->as_object() : nullptr;
}

// Digests and tokens list the slots that they belong to.
void forget_slot(JsonObject& json, std::string_view lists, const std::string& slot) {
  JsonObject* all = object_in(json, lists);
  std::vector<std::string> names;
  for (const auto& [name, value] : all != nullptr ? *all : JsonObject()) {
    names.push_back(name);
  }
  for (const std::string& name : names) {
    JsonObject* one = object_in(*all, name);
    JsonValue* slots = one != nullptr ? one->find("keyslots") : nullptr;
    if (slots != nullptr && slots->as_array() != nullptr) {
      std::erase_if(*slots->as_array(), [&slot](const JsonValue& value) {
        return value.as_string() != nullptr && *value.as_string() == slot;
      });
    }
  }
}

// The first gap between areas that is large enough.
std::optional<uint64_t> find_room(const Luks2Metadata& metadata, uint64_t length) {
  std::vector<Luks2Metadata::Area> areas = metadata.areas;
  std::ranges::sort(areas, {}, &Luks2Metadata::Area::begin);
  areas.push_back({.begin = metadata.room.end, .end = metadata.room.end});
  uint64_t begin = align_up(metadata.room.begin, kAreaAlignment);
  for (const Luks2Metadata::Area& area : areas) {
    if (area.begin >= begin && area.begin - begin >= length) {
      return begin;
    }
    begin = align_up(area.end, kAreaAlignment);
  }
  return std::nullopt;
}

}  // namespace

std::vector<uint32_t> Luks2Volume::active_slots() const {
  std::vector<uint32_t> active;
  for (const Luks2Slot& slot : metadata_.slots) {
    active.push_back(slot.index);
  }
  return active;
}

const Luks2Slot* Luks2Volume::find_slot(uint32_t index) const {
  const auto found = std::ranges::find(metadata_.slots, index, &Luks2Slot::index);
  return found == metadata_.slots.end() ? nullptr : &*found;
}

io::Task<Result<LuksVolume::Key>> Luks2Volume::try_slot(uint32_t index,
                                                        const std::string& password) {
  const Luks2Slot* slot = find_slot(index);
  if (slot == nullptr) {
    co_return Key();
  }
  std::vector<std::byte> material(material_bytes(*slot));
  Result<void> read = co_await area_.read(slot->area_offset, material);
  if (!read) {
    co_return pass(read, "Failed to read key material: ");
  }
  const Luks2Digest& digest = metadata_.digest;
  auto open = [slot, &digest, &material, &password] {
    return open_luks2_slot(*slot, digest, material, crypto::bytes_of(password));
  };
  co_return co_await crypto::run_on_workers(open);
}

Result<std::unique_ptr<block::SectorCodec>> Luks2Volume::make_codec(
    std::span<const std::byte> key) const {
  auto cipher = crypto::make_sector_cipher(metadata_.cipher, key);
  if (!cipher) {
    return pass(cipher);
  }
  return std::make_unique<VolumeCodec>(std::move(*cipher), sector_size(), opening_.numbering,
                                       kLuksSector, metadata_.first_number);
}

schema::QCryptoBlockInfoLUKS Luks2Volume::info() const {
  schema::QCryptoBlockInfoLUKS info;
  info.cipher_alg = static_cast<schema::QCryptoCipherAlgo>(metadata_.cipher.cipher);
  info.cipher_mode = static_cast<schema::QCryptoCipherMode>(metadata_.cipher.mode);
  info.ivgen_alg = static_cast<schema::QCryptoIVGenAlgo>(metadata_.cipher.iv_generator);
  if (metadata_.cipher.iv_generator == crypto::IvGenerator::kEssiv) {
    info.ivgen_hash_alg = static_cast<schema::QCryptoHashAlgo>(metadata_.cipher.iv_hash);
  }
  info.hash_alg = static_cast<schema::QCryptoHashAlgo>(metadata_.digest.hash);
  info.detached_header = opening_.detached;
  info.payload_offset = static_cast<int64_t>(payload_offset());
  info.master_key_iters = metadata_.digest.iterations;
  info.uuid = header_.uuid();
  info.version = 2;
  info.sector_size = metadata_.cipher.sector_size;
  // By number, up to the last that is active.
  for (const Luks2Slot& slot : metadata_.slots) {
    info.slots.resize(slot.index + 1);
    schema::QCryptoBlockInfoLUKSSlot& told = info.slots.back();
    told.active = true;
    told.iters = slot.kdf.iterations;
    told.stripes = Luks2Metadata::kStripes;
    told.key_offset = static_cast<int64_t>(slot.area_offset);
    told.pbkdf = static_cast<schema::LuksPbkdf>(slot.kdf.type);
    if (slot.kdf.type != Luks2Kdf::Type::kPbkdf2) {
      told.memory = slot.kdf.memory;
      told.threads = slot.kdf.lanes;
    }
  }
  return info;
}

io::Task<Result<void>> Luks2Volume::write_json(JsonObject json) {
  Luks2Header changed = header_;
  changed.json = std::move(json);
  Result<Luks2Metadata> metadata =
      parse_luks2_metadata(changed.json, changed.size(), opening_.detached);
  if (!metadata) {
    co_return pass(metadata);
  }
  Result<void> written = co_await write_luks2_header(area_, changed);
  // What a failed write has left must not count for as much as the next one.
  header_.binary = changed.binary;
  if (written) {
    header_ = std::move(changed);
    metadata_ = std::move(*metadata);
  }
  co_return written;
}

// Like the slot that has opened the volume, but for what makes it the new password's.
io::Task<Result<void>> Luks2Volume::fill_slot(uint32_t index, crypto::SecretBytes key,
                                              std::string password, uint64_t milliseconds) {
  if (std::ranges::count(metadata_.taken, index) != 0) {
    co_return fail(EINVAL, "Keyslot {} holds something else than a key of the disk", index);
  }
  Luks2Slot slot = metadata_.slots.front();
  slot.index = index;
  slot.area_length = align_up(uint64_t{slot.key_bytes} * Luks2Metadata::kStripes, kAreaAlignment);
  const std::optional<uint64_t> room = find_room(metadata_, slot.area_length);
  if (!room) {
    co_return fail(ENOSPC, "Can't add a keyslot - there is no room for its key material");
  }
  slot.area_offset = *room;
  std::vector<std::byte> material;
  auto make = [&slot, &material, &key, &password, milliseconds]() -> Result<void> {
    if (auto prepared = prepare_kdf(slot.kdf, slot.key_bytes, milliseconds); !prepared) {
      return prepared;
    }
    auto sealed = seal_luks2_slot(slot, key.span(), crypto::bytes_of(password));
    if (!sealed) {
      return pass(sealed);
    }
    material = std::move(*sealed);
    return {};
  };
  Result<void> result = co_await crypto::run_on_workers(make);
  crypto::wipe(password);
  if (result) {
    result = co_await area_.write(slot.area_offset, material);
  }
  if (!result) {
    co_return result;
  }
  JsonObject json = header_.json;
  const std::string area_cipher =
      fmt::format("{}-{}", family_of(slot.cipher.cipher), mode_text(slot.cipher));
  object_in(json, "keyslots")->add(std::to_string(index), describe_luks2_slot(slot, area_cipher));
  JsonObject* digest = object_in(*object_in(json, "digests"), metadata_.digest.name);
  digest->find("keyslots")->as_array()->push_back(std::to_string(index));
  co_return co_await write_json(std::move(json));
}

io::Task<Result<void>> Luks2Volume::erase_slot(uint32_t index) {
  const Luks2Slot* slot = find_slot(index);
  if (slot == nullptr) {
    co_return Result<void>{};
  }
  const uint64_t offset = slot->area_offset;
  std::vector<std::byte> noise(material_bytes(*slot));
  JsonObject json = header_.json;
  const std::string name = std::to_string(index);
  static_cast<void>(object_in(json, "keyslots")->take(name));
  forget_slot(json, "digests", name);
  forget_slot(json, "tokens", name);
  Result<void> result = co_await write_json(std::move(json));
  if (result) {
    result = crypto::random_bytes(noise);
  }
  if (result) {
    result = co_await area_.write(offset, noise);
  }
  if (result) {
    result = co_await area_.flush();
  }
  co_return result;
}

}  // namespace cairn::encryption
