// Luks2Volume: an open LUKS2 header.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "formats/encryption/luks2_header.h"
#include "formats/encryption/luks2_metadata.h"
#include "formats/encryption/luks_volume.h"

namespace cairn::encryption {

class Luks2Volume final : public LuksVolume {
 public:
  Luks2Volume(HeaderArea area, LuksOpening opening, Luks2Header header, Luks2Metadata metadata)
      : LuksVolume(area, std::move(opening)),
        header_(std::move(header)),
        metadata_(std::move(metadata)) {}

  [[nodiscard]] uint64_t payload_offset() const override { return metadata_.payload_offset; }
  [[nodiscard]] std::optional<uint64_t> payload_length() const override {
    return metadata_.payload_length;
  }
  [[nodiscard]] uint32_t sector_size() const override { return metadata_.cipher.sector_size; }
  [[nodiscard]] schema::QCryptoBlockInfoLUKS info() const override;

 private:
  [[nodiscard]] uint32_t slot_limit() const override { return Luks2Metadata::kSlots; }
  [[nodiscard]] std::vector<uint32_t> active_slots() const override;
  [[nodiscard]] io::Task<Result<Key>> try_slot(uint32_t index,
                                               const std::string& password) override;
  [[nodiscard]] io::Task<Result<void>> fill_slot(uint32_t index, crypto::SecretBytes key,
                                                 std::string password,
                                                 uint64_t milliseconds) override;
  [[nodiscard]] io::Task<Result<void>> erase_slot(uint32_t index) override;
  [[nodiscard]] Result<std::unique_ptr<block::SectorCodec>> make_codec(
      std::span<const std::byte> key) const override;
  [[nodiscard]] const Luks2Slot* find_slot(uint32_t index) const;
  // Writes this as the header's JSON, and takes it over when that has succeeded.
  [[nodiscard]] io::Task<Result<void>> write_json(schema::JsonObject json);

  Luks2Header header_;
  Luks2Metadata metadata_;
};

}  // namespace cairn::encryption
