#include "io/iovector.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "io/zero.h"

namespace cairn::io {

IoVector::IoVector(std::span<const iovec> segments) {
  for (const iovec& segment : segments) {
    append(segment.iov_base, segment.iov_len);
  }
}

IoVector IoVector::of_const(std::span<const std::byte> bytes) {
  return of_const(bytes.data(), bytes.size());
}

IoVector IoVector::of_const(const void* base, std::size_t length) {
  return {const_cast<void*>(base), length};
}

void IoVector::append(void* base, std::size_t length) {
  if (length == 0) {
    return;
  }
  size_ += length;
  if (!segments().empty()) {
    iovec& last = heap_.empty() ? inline_[count_ - 1] : heap_.back();
    if (static_cast<std::byte*>(last.iov_base) + last.iov_len == base) {
      last.iov_len += length;
      return;
    }
  }
  const iovec segment{.iov_base = base, .iov_len = length};
  if (!heap_.empty()) {
    heap_.push_back(segment);
  } else if (count_ < kInline) {
    inline_[count_++] = segment;
  } else {
    heap_.reserve(2 * kInline);
    heap_.assign(inline_.begin(), inline_.end());
    heap_.push_back(segment);
    count_ = 0;
  }
}

void IoVector::append(const IoVector& other) {
  assert(this != &other);
  for (const iovec& segment : other.segments()) {
    append(segment.iov_base, segment.iov_len);
  }
}

void IoVector::clear() {
  size_ = 0;
  count_ = 0;
  heap_.clear();
}

template <typename Visit>
void IoVector::for_each(uint64_t offset, uint64_t length, Visit visit) const {
  assert(offset <= size_ && length <= size_ - offset);
  for (const iovec& segment : segments()) {
    if (length == 0) {
      return;
    }
    if (offset >= segment.iov_len) {
      offset -= segment.iov_len;
      continue;
    }
    const std::size_t piece = std::min<uint64_t>(segment.iov_len - offset, length);
    if (!visit(static_cast<std::byte*>(segment.iov_base) + offset, piece)) {
      return;
    }
    offset = 0;
    length -= piece;
  }
}

IoVector IoVector::slice(uint64_t offset, uint64_t length) const {
  IoVector part;
  for_each(offset, length, [&part](std::byte* base, std::size_t piece) {
    part.append(base, piece);
    return true;
  });
  return part;
}

void IoVector::fill(std::byte value, uint64_t offset, uint64_t length) const {
  for_each(offset, length, [value](std::byte* base, std::size_t piece) {
    std::memset(base, std::to_integer<int>(value), piece);
    return true;
  });
}

void IoVector::copy_from(uint64_t offset, std::span<const std::byte> bytes) const {
  for_each(offset, bytes.size(), [&bytes](std::byte* base, std::size_t piece) {
    std::memcpy(base, bytes.data(), piece);
    bytes = bytes.subspan(piece);
    return true;
  });
}

void IoVector::copy_to(uint64_t offset, std::span<std::byte> bytes) const {
  for_each(offset, bytes.size(), [&bytes](const std::byte* base, std::size_t piece) {
    std::memcpy(bytes.data(), base, piece);
    bytes = bytes.subspan(piece);
    return true;
  });
}

void IoVector::copy_from(uint64_t offset, const IoVector& source) const {
  for (const iovec& segment : source.segments()) {
    copy_from(offset, std::span(static_cast<const std::byte*>(segment.iov_base), segment.iov_len));
    offset += segment.iov_len;
  }
}

bool IoVector::is_zero(uint64_t offset, uint64_t length) const {
  bool zero = true;
  for_each(offset, length, [&zero](const std::byte* base, std::size_t piece) {
    zero = io::is_zero({base, piece});
    return zero;
  });
  return zero;
}

bool IoVector::is_aligned(std::size_t alignment) const {
  return std::ranges::all_of(segments(), [alignment](const iovec& segment) {
    return ((reinterpret_cast<uintptr_t>(segment.iov_base) | segment.iov_len) & (alignment - 1)) ==
           0;
  });
}

}  // namespace cairn::io
