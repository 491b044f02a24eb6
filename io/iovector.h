// IoVector: a scatter list: which pieces of memory, in order, a request reads into or writes from.
//
// It does not own the memory. Up to four segments are stored inside, more on the heap. There are no
// empty segments, and neighbours that touch in memory are one segment.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace cairn::io {

class IoVector {
 public:
  IoVector() = default;
  IoVector(void* base, std::size_t length) { append(base, length); }
  explicit IoVector(std::span<std::byte> bytes) { append(bytes.data(), bytes.size()); }
  explicit IoVector(std::span<const iovec> segments);

  // A vector over memory that is only read from: for writes.
  [[nodiscard]] static IoVector of_const(std::span<const std::byte> bytes);
  [[nodiscard]] static IoVector of_const(const void* base, std::size_t length);

  // All sizes and offsets are in bytes.
  [[nodiscard]] uint64_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::span<const iovec> segments() const {
    return heap_.empty() ? std::span(inline_.data(), count_) : std::span<const iovec>(heap_);
  }

  void append(void* base, std::size_t length);
  void append(const IoVector& other);
  void clear();

  // The part of `length` bytes at `offset`, which must lie inside.
  [[nodiscard]] IoVector slice(uint64_t offset, uint64_t length) const;

  // Sets every byte.
  void fill(std::byte value) const { fill(value, 0, size_); }
  void fill(std::byte value, uint64_t offset, uint64_t length) const;

  // Copies between the bytes at `offset` in here and `bytes`, which must fit.
  void copy_from(uint64_t offset, std::span<const std::byte> bytes) const;
  void copy_to(uint64_t offset, std::span<std::byte> bytes) const;
  // The same, with another vector, all of it.
  void copy_from(uint64_t offset, const IoVector& source) const;

  [[nodiscard]] bool is_zero() const { return is_zero(0, size_); }
  [[nodiscard]] bool is_zero(uint64_t offset, uint64_t length) const;

  // True when every segment's address and length is a multiple of `alignment`, a power of two.
  [[nodiscard]] bool is_aligned(std::size_t alignment) const;

 private:
  static constexpr std::size_t kInline = 4;

  // Calls visit(std::byte* base, size_t length) for the pieces of a part; stops when it returns
  // false.
  template <typename Visit>
  void for_each(uint64_t offset, uint64_t length, Visit visit) const;

  uint64_t size_ = 0;
  std::size_t count_ = 0;  // of segments, when they are inside
  std::array<iovec, kInline> inline_;
  std::vector<iovec> heap_;  // all segments, when there are more than fit inside
};

}  // namespace cairn::io
