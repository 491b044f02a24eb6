// Deflate by ISA-L. Nothing comes of it where ISA-L is not there, or this program was built without
// it (fast_deflate_absent.cc): then it is for zlib.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "formats/deflate/deflate.h"

namespace cairn::deflate {

// Whether ISA-L is there.
[[nodiscard]] bool fast_deflate_available();

// As inflate(), but nothing as well for streams that yield more than there is room for.
[[nodiscard]] std::optional<std::size_t> fast_inflate(Wrapping wrapping,
                                                      std::span<const std::byte> stored,
                                                      std::span<std::byte> out);

// As deflate(), for the levels 0 to 3; nothing for the others.
[[nodiscard]] std::optional<std::size_t> fast_deflate(const Settings& settings,
                                                      std::span<const std::byte> content,
                                                      std::span<std::byte> out);

}  // namespace cairn::deflate
