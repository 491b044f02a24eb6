// BufferPool: page-aligned memory for payloads, reused so that a request costs neither an
// allocation nor page faults.
//
// Sizes are rounded up to powers of two from a page to kMaxPayload. What is given back is kept, the
// warmest on top, up to kMaxIdle bytes; trim() gives all idle memory back to the system. On one
// reactor's thread. The pool outlives its leases.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "io/buffer.h"

namespace cairn::nbd {

class BufferPool {
 public:
  static constexpr std::size_t kMaxIdle = std::size_t{16} * 1024 * 1024;

  // Memory on loan; goes back when the lease is destroyed.
  class Lease {
   public:
    Lease() = default;
    Lease(Lease&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), memory_(std::move(other.memory_)) {}
    Lease& operator=(Lease&& other) noexcept {
      if (this != &other) {
        give_back();
        pool_ = std::exchange(other.pool_, nullptr);
        memory_ = std::move(other.memory_);
      }
      return *this;
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    ~Lease() { give_back(); }

    [[nodiscard]] bool valid() const { return pool_ != nullptr; }
    [[nodiscard]] std::byte* data() { return memory_.data(); }
    [[nodiscard]] const std::byte* data() const { return memory_.data(); }
    [[nodiscard]] std::size_t capacity() const { return memory_.size(); }

   private:
    friend class BufferPool;
    Lease(BufferPool& pool, io::AlignedBuffer memory) : pool_(&pool), memory_(std::move(memory)) {}
    void give_back() {
      if (pool_ != nullptr) {
        std::exchange(pool_, nullptr)->put(std::move(memory_));
      }
    }

    BufferPool* pool_ = nullptr;
    io::AlignedBuffer memory_;
  };

  BufferPool() = default;
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // Room for at least `size` bytes, with whatever they held before. Not valid when there is no
  // memory.
  [[nodiscard]] Lease take(std::size_t size);

  // Frees what nobody has on loan.
  void trim();
  [[nodiscard]] std::size_t idle_bytes() const { return idle_bytes_; }

 private:
  static constexpr std::size_t kSmallest = io::AlignedBuffer::kPage;
  static constexpr std::size_t kClasses = 14;  // 4 KiB to 32 MiB

  void put(io::AlignedBuffer memory);
  [[nodiscard]] static std::size_t class_of(std::size_t size) {
    return size <= kSmallest ? 0 : static_cast<std::size_t>(std::bit_width((size - 1) / kSmallest));
  }

  std::array<std::vector<io::AlignedBuffer>, kClasses> idle_;
  std::size_t idle_bytes_ = 0;
};

}  // namespace cairn::nbd
