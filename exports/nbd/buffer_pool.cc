#include "exports/nbd/buffer_pool.h"

#include <cassert>

namespace cairn::nbd {

BufferPool::Lease BufferPool::take(std::size_t size) {
  const std::size_t index = class_of(size);
  assert(index < kClasses);
  std::vector<io::AlignedBuffer>& idle = idle_[index];
  if (!idle.empty()) {
    io::AlignedBuffer memory = std::move(idle.back());
    idle.pop_back();
    idle_bytes_ -= memory.size();
    return Lease(*this, std::move(memory));
  }
  auto memory = io::AlignedBuffer::allocate(kSmallest << index);
  return memory ? Lease(*this, std::move(*memory)) : Lease();
}

void BufferPool::put(io::AlignedBuffer memory) {
  if (idle_bytes_ + memory.size() > kMaxIdle) {
    return;
  }
  idle_bytes_ += memory.size();
  idle_[class_of(memory.size())].push_back(std::move(memory));
}

void BufferPool::trim() {
  for (std::vector<io::AlignedBuffer>& idle : idle_) {
    idle.clear();
    idle.shrink_to_fit();
  }
  idle_bytes_ = 0;
}

}  // namespace cairn::nbd
