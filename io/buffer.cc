#include "io/buffer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace cairn::io {

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  data_ = std::move(other.data_);
  size_ = std::exchange(other.size_, 0);
  return *this;
}

Result<AlignedBuffer> AlignedBuffer::allocate(uint64_t size, std::size_t alignment) {
  if (size == 0) {
    return AlignedBuffer();
  }
  void* memory = nullptr;
  // posix_memalign() wants an alignment of at least a pointer's.
  if (size > kLargest || posix_memalign(&memory, std::max(alignment, sizeof(void*)), size) != 0) {
    return fail_errno(ENOMEM, "Could not allocate {} bytes", size);
  }
  return AlignedBuffer(static_cast<std::byte*>(memory), size);
}

Result<AlignedBuffer> AlignedBuffer::allocate_zeroed(uint64_t size, std::size_t alignment) {
  auto buffer = allocate(size, alignment);
  if (buffer && !buffer->empty()) {
    std::memset(buffer->data(), 0, buffer->size());
  }
  return buffer;
}

}  // namespace cairn::io
