// Reading and writing numbers in memory that the guest changes at the same time: each access is one
// load or store, in little-endian order, and happens where it is written.
#pragma once

#include <atomic>
#include <bit>
#include <concepts>
#include <cstddef>

namespace cairn::vhost_user {

// `place` is aligned to the size of a T.
template <std::unsigned_integral T>
[[nodiscard]] inline T load_shared(std::byte* place,
                                   std::memory_order order = std::memory_order_relaxed) {
  T value = std::atomic_ref<T>(*reinterpret_cast<T*>(place)).load(order);
  if constexpr (std::endian::native == std::endian::big && sizeof(T) > 1) {
    value = std::byteswap(value);
  }
  return value;
}

template <std::unsigned_integral T>
inline void store_shared(std::byte* place, T value,
                         std::memory_order order = std::memory_order_relaxed) {
  if constexpr (std::endian::native == std::endian::big && sizeof(T) > 1) {
    value = std::byteswap(value);
  }
  std::atomic_ref<T>(*reinterpret_cast<T*>(place)).store(value, order);
}

// For a number that only programs of this host share, in its own order.
template <std::unsigned_integral T>
[[nodiscard]] inline T load_native(std::byte* place) {
  return std::atomic_ref<T>(*reinterpret_cast<T*>(place)).load(std::memory_order_acquire);
}
template <std::unsigned_integral T>
inline void store_native(std::byte* place, T value) {
  std::atomic_ref<T>(*reinterpret_cast<T*>(place)).store(value, std::memory_order_release);
}

}  // namespace cairn::vhost_user
