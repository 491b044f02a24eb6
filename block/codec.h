// Codec: turns the stored form of a unit (a compressed or encrypted piece) into guest bytes and
// back. Codecs are owned by the driver whose extents name them and hold no per-request state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace cairn::block {

// Where a unit lies; initialisation vectors of encrypted formats use one or the other.
struct CodecPosition {
  uint64_t guest_offset = 0;
  uint64_t host_offset = 0;
};

class Codec {
 public:
  virtual ~Codec() = default;

  // Decodes one unit. `stored` may be longer than the stored form (its end is rounded up to
  // sectors in some formats); `unit` is filled completely or the call fails with EIO. Called on
  // any thread; treats `stored` as hostile.
  [[nodiscard]] virtual Result<void> decode(CodecPosition position,
                                            std::span<const std::byte> stored,
                                            std::span<std::byte> unit) const = 0;

  // Encodes one unit into `stored`. The length of the stored form, or 0 when it does not fit;
  // ENOMEM. Called on any thread. The same unit always yields the same bytes.
  [[nodiscard]] virtual Result<std::size_t> encode(std::span<const std::byte> unit,
                                                   std::span<std::byte> stored) const = 0;

  // The same for formats whose stored form tells where the unit belongs.
  [[nodiscard]] virtual Result<std::size_t> encode_at(uint64_t /*guest_offset*/,
                                                      std::span<const std::byte> unit,
                                                      std::span<std::byte> stored) const {
    return encode(unit, stored);
  }

  // The longest form of a unit that is worth storing: by default one that is shorter than it.
  [[nodiscard]] virtual std::size_t longest_stored(std::size_t unit_length) const {
    return unit_length - 1;
  }
};

}  // namespace cairn::block
