#include "exports/nbd/receive_buffer.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace cairn::nbd {

ReceiveBuffer::Chunk::Ref ReceiveBuffer::Chunk::make(BufferPool& pool) {
  BufferPool::Lease memory = pool.take(kCapacity);
  return memory.valid() ? Ref(new Chunk(std::move(memory))) : Ref();
}

std::span<std::byte> ReceiveBuffer::prepare(std::size_t wanted) {
  assert(wanted <= kCapacity);
  if (!chunk_) {
    chunk_ = Chunk::make(pool_);
    begin_ = end_ = 0;
    if (!chunk_) {
      return {};
    }
  }
  if (begin_ == end_ && !chunk_.shared()) {
    begin_ = end_ = 0;
  }
  const bool too_short = kCapacity - begin_ < wanted;
  const bool nearly_full = kCapacity - end_ < std::min(window_, kMaxInPlace);
  if ((too_short || nearly_full) && !start_chunk()) {
    return {};
  }
  const std::size_t missing = wanted - std::min(wanted, end_ - begin_);
  offered_ = std::min(std::max(missing, window_), kCapacity - end_);
  return {chunk_.data() + end_, offered_};
}

// Moves bytes() to the start of a chunk that nobody else refers to.
bool ReceiveBuffer::start_chunk() {
  const std::span<const std::byte> rest = bytes();
  if (chunk_.shared()) {
    Chunk::Ref fresh = Chunk::make(pool_);
    if (!fresh) {
      return false;
    }
    if (!rest.empty()) {
      std::memcpy(fresh.data(), rest.data(), rest.size());
    }
    chunk_ = std::move(fresh);
  } else if (!rest.empty()) {
    std::memmove(chunk_.data(), rest.data(), rest.size());
  }
  begin_ = 0;
  end_ = rest.size();
  return true;
}

void ReceiveBuffer::received(std::size_t count) {
  end_ += count;
  if (count == offered_) {
    window_ = std::min(window_ * 2, kMaxWindow);
  }
}

void ReceiveBuffer::release() {
  if (begin_ == end_) {
    chunk_ = {};
    begin_ = end_ = 0;
    window_ = kFirstWindow;
  }
}

}  // namespace cairn::nbd
