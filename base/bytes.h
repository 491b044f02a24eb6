// Byte order and alignment: reading and writing fixed-width integers in on-disk and on-wire
// structures, and power-of-two rounding that can not overflow silently.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace cairn {

// Loads an integer at `p`, which may be unaligned; the caller has checked the bounds.
template <std::unsigned_integral T>
[[nodiscard]] inline T load_be(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  if constexpr (std::endian::native == std::endian::little && sizeof(T) > 1) {
    value = std::byteswap(value);
  }
  return value;
}

template <std::unsigned_integral T>
[[nodiscard]] inline T load_le(const void* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  if constexpr (std::endian::native == std::endian::big && sizeof(T) > 1) {
    value = std::byteswap(value);
  }
  return value;
}

template <std::unsigned_integral T>
inline void store_be(void* p, T value) {
  if constexpr (std::endian::native == std::endian::little && sizeof(T) > 1) {
    value = std::byteswap(value);
  }
  std::memcpy(p, &value, sizeof value);
}

template <std::unsigned_integral T>
inline void store_le(void* p, T value) {
  if constexpr (std::endian::native == std::endian::big && sizeof(T) > 1) {
    value = std::byteswap(value);
  }
  std::memcpy(p, &value, sizeof value);
}

// Rounding to a multiple of `unit`, a power of two.
[[nodiscard]] constexpr uint64_t align_down(uint64_t value, uint64_t unit) {
  return value & ~(unit - 1);
}
// The result must fit: callers that handle numbers from an image use checked_align_up().
[[nodiscard]] constexpr uint64_t align_up(uint64_t value, uint64_t unit) {
  return align_down(value + unit - 1, unit);
}
[[nodiscard]] constexpr bool is_aligned(uint64_t value, uint64_t unit) {
  return (value & (unit - 1)) == 0;
}
[[nodiscard]] constexpr uint64_t div_round_up(uint64_t value, uint64_t unit) {
  return value / unit + (value % unit != 0 ? 1 : 0);
}

// Arithmetic on numbers that an image or a client chose: nothing on overflow.
[[nodiscard]] constexpr std::optional<uint64_t> checked_add(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? std::nullopt : std::optional(sum);
}
[[nodiscard]] constexpr std::optional<uint64_t> checked_mul(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? std::nullopt : std::optional(product);
}
[[nodiscard]] constexpr std::optional<uint64_t> checked_align_up(uint64_t value, uint64_t unit) {
  const auto sum = checked_add(value, unit - 1);
  return sum ? std::optional(align_down(*sum, unit)) : std::nullopt;
}

}  // namespace cairn
