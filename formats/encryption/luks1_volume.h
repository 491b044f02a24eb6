// Luks1Volume: an open LUKS1 header.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "formats/encryption/luks1_header.h"
#include "formats/encryption/luks_volume.h"

namespace cairn::encryption {

class Luks1Volume final : public LuksVolume {
 public:
  Luks1Volume(HeaderArea area, LuksOpening opening, Luks1Header header)
      : LuksVolume(area, std::move(opening)), header_(std::move(header)) {}

  [[nodiscard]] uint64_t payload_offset() const override {
    return uint64_t{header_.payload_sector} * kLuksSector;
  }
  [[nodiscard]] uint32_t sector_size() const override { return kLuksSector; }
  [[nodiscard]] schema::QCryptoBlockInfoLUKS info() const override;

 private:
  [[nodiscard]] uint32_t slot_limit() const override { return Luks1Header::kSlots; }
  [[nodiscard]] std::vector<uint32_t> active_slots() const override;
  [[nodiscard]] io::Task<Result<Key>> try_slot(uint32_t index,
                                               const std::string& password) override;
  [[nodiscard]] io::Task<Result<void>> fill_slot(uint32_t index, crypto::SecretBytes key,
                                                 std::string password,
                                                 uint64_t milliseconds) override;
  [[nodiscard]] io::Task<Result<void>> erase_slot(uint32_t index) override;
  [[nodiscard]] Result<std::unique_ptr<block::SectorCodec>> make_codec(
      std::span<const std::byte> key) const override;
  [[nodiscard]] io::Task<Result<void>> write_header();

  Luks1Header header_;
};

}  // namespace cairn::encryption
