// A power cut at any time leaves every other slot as it was: a slot is not active before its key
// material is on the disk, and is inactive before it is overwritten.
#include "formats/encryption/luks1_volume.h"

#include <cerrno>

#include "crypto/cipher.h"
#include "crypto/hash.h"
#include "crypto/workers.h"
#include "formats/encryption/luks1_keys.h"
#include "schema/types_crypto.h"

namespace cairn::encryption {

std::vector<uint32_t> Luks1Volume::active_slots() const {
  std::vector<uint32_t> active;
  for (uint32_t i = 0; i < Luks1Header::kSlots; ++i) {
    if (header_.slots[i].active) {
      active.push_back(i);
    }
  }
  return active;
}

io::Task<Result<LuksVolume::Key>> Luks1Volume::try_slot(uint32_t index,
                                                        const std::string& password) {
  const Luks1Slot& slot = header_.slots[index];
  if (!slot.active) {
    co_return Key();
  }
  std::vector<std::byte> material(stored_material_bytes(header_));
  const uint64_t offset = uint64_t{slot.material_sector} * kLuksSector;
  Result<void> read = co_await area_.read(offset, material);
  if (!read) {
    co_return pass(read, "Failed to read key material: ");
  }
  const Luks1Header& header = header_;
  auto open = [&header, &slot, &material, &password] {
    return open_slot(header, slot, material, crypto::bytes_of(password));
  };
  co_return co_await crypto::run_on_workers(open);
}

Result<std::unique_ptr<block::SectorCodec>> Luks1Volume::make_codec(
    std::span<const std::byte> key) const {
  auto cipher = crypto::make_sector_cipher(header_.cipher, key);
  if (!cipher) {
    return pass(cipher);
  }
  return std::make_unique<VolumeCodec>(std::move(*cipher), kLuksSector, opening_.numbering);
}

schema::QCryptoBlockInfoLUKS Luks1Volume::info() const {
  schema::QCryptoBlockInfoLUKS info;
  info.cipher_alg = static_cast<schema::QCryptoCipherAlgo>(header_.cipher.cipher);
  info.cipher_mode = static_cast<schema::QCryptoCipherMode>(header_.cipher.mode);
  info.ivgen_alg = static_cast<schema::QCryptoIVGenAlgo>(header_.cipher.iv_generator);
  if (header_.cipher.iv_generator == crypto::IvGenerator::kEssiv) {
    info.ivgen_hash_alg = static_cast<schema::QCryptoHashAlgo>(header_.cipher.iv_hash);
  }
  info.hash_alg = static_cast<schema::QCryptoHashAlgo>(header_.hash);
  info.detached_header = opening_.detached;
  info.payload_offset = static_cast<int64_t>(payload_offset());
  info.master_key_iters = header_.key_digest_iterations;
  info.uuid = header_.uuid;
  for (const Luks1Slot& slot : header_.slots) {
    schema::QCryptoBlockInfoLUKSSlot& told = info.slots.emplace_back();
    told.active = slot.active;
    told.key_offset = int64_t{slot.material_sector} * kLuksSector;
    if (slot.active) {
      told.iters = slot.iterations;
      told.stripes = Luks1Header::kStripes;
    }
  }
  return info;
}

io::Task<Result<void>> Luks1Volume::fill_slot(uint32_t index, crypto::SecretBytes key,
                                              std::string password, uint64_t milliseconds) {
  Luks1Slot slot = header_.slots[index];
  const Luks1Header& header = header_;
  std::vector<std::byte> material;
  auto make = [&header, &slot, &material, &key, &password, milliseconds]() -> Result<void> {
    if (auto prepared = prepare_slot(header, slot, milliseconds); !prepared) {
      return prepared;
    }
    auto sealed = seal_slot(header, slot, key.span(), crypto::bytes_of(password));
    if (!sealed) {
      return pass(sealed);
    }
    material = std::move(*sealed);
    return {};
  };
  Result<void> result = co_await crypto::run_on_workers(make);
  crypto::wipe(password);
  if (result) {
    result = co_await area_.write(uint64_t{slot.material_sector} * kLuksSector, material);
  }
  // The slot's entry may cross a sector's end, so all of it but its state comes first.
  const Luks1Slot before = header_.slots[index];
  if (result) {
    header_.slots[index] = slot;
    result = co_await write_header();
  }
  if (result) {
    header_.slots[index].active = true;
    result = co_await write_header();
  }
  if (!result) {
    header_.slots[index] = before;
  }
  co_return result;
}

// The header first: a slot whose material is partly gone must not count as one that opens.
io::Task<Result<void>> Luks1Volume::erase_slot(uint32_t index) {
  const Luks1Slot before = header_.slots[index];
  Luks1Slot& slot = header_.slots[index];
  slot.active = false;
  slot.iterations = 0;
  slot.salt = {};
  Result<void> result = co_await write_header();
  if (!result) {
    slot = before;
    co_return result;
  }
  std::vector<std::byte> noise(stored_material_bytes(header_));
  result = crypto::random_bytes(noise);
  if (result) {
    result = co_await area_.write(uint64_t{slot.material_sector} * kLuksSector, noise);
  }
  if (result) {
    result = co_await area_.flush();
  }
  co_return result;
}

// With what was written before it on the disk already.
io::Task<Result<void>> Luks1Volume::write_header() {
  Result<void> result = co_await area_.flush();
  if (result) {
    const std::vector<std::byte> bytes = serialize_luks1_header(header_);
    result = co_await area_.write(0, bytes);
  }
  if (result) {
    result = co_await area_.flush();
  }
  co_return result;
}

}  // namespace cairn::encryption
