// Testing memory for zeroes.
#pragma once

#include <cstddef>
#include <span>

namespace cairn::io {

// True when every byte is zero (also when there are none).
[[nodiscard]] bool is_zero(std::span<const std::byte> bytes);

}  // namespace cairn::io
