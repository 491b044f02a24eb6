// VolumeCodec: a cipher as the engine's SectorCodec, with the number that each sector has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "block/sector_codec.h"
#include "crypto/sector_cipher.h"

namespace cairn::encryption {

// What a sector's number, and so its initialisation vector, follows from.
enum class Numbering : uint8_t { kGuestOffset, kHostOffset };

class VolumeCodec final : public block::SectorCodec {
 public:
  // Numbers count units of `number_unit` bytes, from `first_number` on.
  VolumeCodec(std::unique_ptr<crypto::SectorCipher> cipher, uint32_t sector_size,
              Numbering numbering, uint32_t number_unit = 512, uint64_t first_number = 0)
      : cipher_(std::move(cipher)),
        sector_size_(sector_size),
        numbering_(numbering),
        number_unit_(number_unit),
        first_number_(first_number) {}

  [[nodiscard]] uint32_t sector_size() const override { return sector_size_; }
  [[nodiscard]] Result<void> decode(block::CodecPosition position,
                                    std::span<const std::byte> stored,
                                    std::span<std::byte> plain) const override {
    return cipher_->decrypt(number(position), stored, plain);
  }
  [[nodiscard]] Result<void> encode(block::CodecPosition position, std::span<const std::byte> plain,
                                    std::span<std::byte> stored) const override {
    return cipher_->encrypt(number(position), plain, stored);
  }

 private:
  [[nodiscard]] uint64_t number(block::CodecPosition position) const {
    const uint64_t offset =
        numbering_ == Numbering::kHostOffset ? position.host_offset : position.guest_offset;
    return offset / number_unit_ + first_number_;
  }

  std::unique_ptr<crypto::SectorCipher> cipher_;
  uint32_t sector_size_;
  Numbering numbering_;
  uint32_t number_unit_;
  uint64_t first_number_;
};

}  // namespace cairn::encryption
