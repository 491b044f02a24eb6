// GrainCodec: compressed grains, each a zlib stream, with a marker in front that tells the sector
// of the disk and the length (section "Compressed Grain"). Stateless. What is stored ends at a
// sector.
#pragma once

#include "block/codec.h"

namespace cairn::vmdk {

class GrainCodec final : public block::Codec {
 public:
  // `markers`: grains have them.
  explicit GrainCodec(bool markers) : markers_(markers) {}

  // EINVAL for what is no stream. One that ends early leaves zeroes.
  [[nodiscard]] Result<void> decode(block::CodecPosition position,
                                    std::span<const std::byte> stored,
                                    std::span<std::byte> unit) const override;
  [[nodiscard]] Result<std::size_t> encode(std::span<const std::byte> unit,
                                           std::span<std::byte> stored) const override;
  [[nodiscard]] Result<std::size_t> encode_at(uint64_t guest_offset,
                                              std::span<const std::byte> unit,
                                              std::span<std::byte> stored) const override;
  // Room for what does not become shorter, too: a grain has no other form.
  [[nodiscard]] std::size_t longest_stored(std::size_t unit_length) const override;

 private:
  const bool markers_;
};

}  // namespace cairn::vmdk
