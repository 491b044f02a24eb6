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
  for (const auto& [address, free] : chunks_) {
    assert(free == all_free_ && "a page outlives its memory");
    munmap(reinterpret_cast<void*>(address), chunk_size_);
  }
}

Result<void> PageMemory::add_chunk() {
  with_room_.reserve(chunks_.size() + 1);  // giving a page back must not fail
  // As long as it takes to have an aligned chunk inside; the rest goes back at once.
  const std::size_t length = 2 * chunk_size_;
  void* const mapped =
      mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    return fail_errno(errno, "Could not allocate {} bytes for cached metadata", chunk_size_);
  }
  const auto begin = reinterpret_cast<uintptr_t>(mapped);
  const uintptr_t chunk = align_up(begin, chunk_size_);
  if (chunk > begin) {
    munmap(mapped, chunk - begin);
  }
  const uintptr_t end = begin + length;
  if (end > chunk + chunk_size_) {
    munmap(reinterpret_cast<void*>(chunk + chunk_size_), end - chunk - chunk_size_);
  }
  chunks_.emplace(chunk, all_free_);
  with_room_.push_back(chunk);
  return {};
}

Result<std::byte*> PageMemory::take() {
  if (with_room_.empty()) {
    if (auto added = add_chunk(); !added) {
      return pass(added);
    }
  }
  const uintptr_t chunk = with_room_.back();
  uint64_t& free = chunks_.find(chunk)->second;
  const auto index = static_cast<std::size_t>(std::countr_zero(free));
  free &= free - 1;
  if (free == 0) {
    with_room_.pop_back();
  }
  return reinterpret_cast<std::byte*>(chunk + index * page_size_);
}

void PageMemory::give_back(std::byte* page) {
  const auto address = reinterpret_cast<uintptr_t>(page);
  const uintptr_t chunk = align_down(address, chunk_size_);
  const auto found = chunks_.find(chunk);
  assert(found != chunks_.end());
  uint64_t& free = found->second;
  if (free == 0) {
    with_room_.push_back(chunk);
  }
  free |= uint64_t{1} << ((address - chunk) / page_size_);
  if (free == all_free_ && with_room_.size() > 1) {
    // One is kept: a cache that is full gives a page back whenever it takes one.
    std::erase(with_room_, chunk);
    chunks_.erase(found);
    munmap(reinterpret_cast<void*>(chunk), chunk_size_);
  }
}

}  // namespace cairn::qcow2
