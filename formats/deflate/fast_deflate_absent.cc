// For builds without ISA-L.
#include "formats/deflate/fast_deflate.h"

namespace cairn::deflate {

bool fast_deflate_available() { return false; }

std::optional<std::size_t> fast_inflate(Wrapping /*wrapping*/,
                                        std::span<const std::byte> /*stored*/,
                                        std::span<std::byte> /*out*/) {
  return std::nullopt;
}

std::optional<std::size_t> fast_deflate(const Settings& /*settings*/,
                                        std::span<const std::byte> /*content*/,
                                        std::span<std::byte> /*out*/) {
  return std::nullopt;
}

}  // namespace cairn::deflate
