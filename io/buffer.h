// AlignedBuffer: owned memory for I/O, page aligned unless asked otherwise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "base/result.h"

namespace cairn::io {

class AlignedBuffer {
 public:
  static constexpr std::size_t kPage = 4096;
  // No request is so large; a size beyond it is nonsense and refused unasked.
  static constexpr uint64_t kLargest = uint64_t{1} << 38;

  AlignedBuffer() = default;

  // `size` in bytes, which a client or an image may have chosen: ENOMEM when there is not so much.
  // The memory holds what it held before. `alignment` is a power of two.
  [[nodiscard]] static Result<AlignedBuffer> allocate(uint64_t size, std::size_t alignment = kPage);
  [[nodiscard]] static Result<AlignedBuffer> allocate_zeroed(uint64_t size,
                                                             std::size_t alignment = kPage);

  [[nodiscard]] std::byte* data() { return data_.get(); }
  [[nodiscard]] const std::byte* data() const { return data_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::span<std::byte> span() { return {data_.get(), size_}; }
  [[nodiscard]] std::span<const std::byte> span() const { return {data_.get(), size_}; }

  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer() = default;

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  AlignedBuffer(std::byte* data, std::size_t size) : data_(data), size_(size) {}

  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace cairn::io
