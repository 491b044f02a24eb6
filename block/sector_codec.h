// SectorCodec: encryption of whole sectors, each into as many bytes at the place it is written to.
//
// Unlike a Codec (codec.h), which packs a unit into fewer bytes, it leaves where things lie to the
// mapping: an extent with a sector codec can be written in place, sector by sector. The engine
// widens requests to sectors and narrows the results (engine_sectors.cc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "block/codec.h"

namespace cairn::block {

class SectorCodec {
 public:
  SectorCodec() = default;
  SectorCodec(const SectorCodec&) = delete;
  SectorCodec& operator=(const SectorCodec&) = delete;
  virtual ~SectorCodec() = default;

  // Bytes; a power of two that divides the allocation unit and the length of its driver.
  [[nodiscard]] virtual uint32_t sector_size() const = 0;

  // Both take whole sectors that follow each other at both offsets of `position`, which are
  // multiples of the sector size, and are called on any thread. The spans have the same length and
  // may be the same memory, but not overlap otherwise.
  [[nodiscard]] virtual Result<void> decode(CodecPosition position,
                                            std::span<const std::byte> stored,
                                            std::span<std::byte> plain) const = 0;
  [[nodiscard]] virtual Result<void> encode(CodecPosition position,
                                            std::span<const std::byte> plain,
                                            std::span<std::byte> stored) const = 0;
};

}  // namespace cairn::block
