#include "formats/qcow2/page_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cerrno>

#include "base/bytes.h"

namespace cairn::qcow2 {

namespace {

constexpr std::size_t kLargestChunk = 1 << 20;  // but for pages that are larger
constexpr std::size_t kMostPages = 64;          // of a chunk

std::size_t pages_of_chunk(std::size_t page_size) {
  return std::clamp<std::size_t>(kLargestChunk / page_size, 1, kMostPages);
}

// Where memory can be given back on its own.
constexpr std::size_t kSystemPage = 4096;

}  // namespace

PageMemory::PageMemory(uint32_t page_size)
    : page_size_(page_size),
      chunk_size_(std::max(pages_of_chunk(page_size) * page_size, kSystemPage)),
      all_free_(~uint64_t{0} >> (kMostPages - pages_of_chunk(page_size))) {}

PageMemory::~PageMemory() {
  for (const auto& [address, chunk] : chunks_) {
    assert(chunk.free == all_free_ && "a page outlives its memory");
    munmap(chunk.memory, chunk_size_);
  }
}

uintptr_t PageMemory::chunk_address(const std::byte* page) const {
  return align_down(reinterpret_cast<uintptr_t>(page), chunk_size_);
}

Result<void> PageMemory::add_chunk() {
  with_room_.reserve(chunks_.size() + 1);  // giving a page back must not fail
  // As long as it takes to have an aligned chunk inside; the rest goes back at once.
  void* const mapped =
      mmap(nullptr, 2 * chunk_size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    return fail_errno(errno, "Could not allocate {} bytes for cached metadata", chunk_size_);
  }
  auto* const begin = static_cast<std::byte*>(mapped);
  const std::size_t before = align_up(reinterpret_cast<uintptr_t>(begin), chunk_size_) -
                             reinterpret_cast<uintptr_t>(begin);
  if (before != 0) {
    munmap(begin, before);
  }
  std::byte* const memory = begin + before;
  if (before != chunk_size_) {
    munmap(memory + chunk_size_, chunk_size_ - before);
  }
  Chunk& chunk = chunks_[chunk_address(memory)];
  chunk = {.memory = memory, .free = all_free_};
  with_room_.push_back(&chunk);
  return {};
}

Result<std::byte*> PageMemory::take() {
  if (with_room_.empty()) {
    if (auto added = add_chunk(); !added) {
      return pass(added);
    }
  }
  Chunk& chunk = *with_room_.back();
  const auto index = static_cast<std::size_t>(std::countr_zero(chunk.free));
  chunk.free &= chunk.free - 1;
  if (chunk.free == 0) {
    with_room_.pop_back();
  }
  return chunk.memory + index * page_size_;
}

void PageMemory::give_back(std::byte* page) {
  const auto found = chunks_.find(chunk_address(page));
  assert(found != chunks_.end());
  Chunk& chunk = found->second;
  if (chunk.free == 0) {
    with_room_.push_back(&chunk);
  }
  chunk.free |= uint64_t{1} << (static_cast<std::size_t>(page - chunk.memory) / page_size_);
  if (chunk.free == all_free_ && with_room_.size() > 1) {
    // One is kept: a cache that is full gives a page back whenever it takes one.
    std::erase(with_room_, &chunk);
    munmap(chunk.memory, chunk_size_);
    chunks_.erase(found);
  }
}

}  // namespace cairn::qcow2
