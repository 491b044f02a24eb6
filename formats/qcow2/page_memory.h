// PageMemory: memory for the pages of a cache. It comes from the system in chunks of many pages and
// goes back as soon as a chunk is empty: pages that were allocated one by one would take twice the
// memory that the cache's limit allows, and would come and go in an order that leaves gaps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/result.h"

namespace cairn::qcow2 {

class PageMemory {
 public:
  // `page_size`: bytes, a power of two from 512 on.
  explicit PageMemory(uint32_t page_size);
  PageMemory(const PageMemory&) = delete;
  PageMemory& operator=(const PageMemory&) = delete;
  ~PageMemory();

  // Memory of a page, aligned to its size, with any content. ENOMEM.
  [[nodiscard]] Result<std::byte*> take();
  // What take() has returned.
  void give_back(std::byte* page);

  // Bytes that are taken from the system.
  [[nodiscard]] std::size_t held() const { return chunks_.size() * chunk_size_; }

 private:
  struct Chunk {
    std::byte* memory = nullptr;
    uint64_t free = 0;  // a bit is set where a page is free
  };

  [[nodiscard]] Result<void> add_chunk();
  [[nodiscard]] uintptr_t chunk_address(const std::byte* page) const;

  const std::size_t page_size_;
  const std::size_t chunk_size_;                 // a power of two; chunks are aligned to it
  const uint64_t all_free_;                      // a bit for each page of a chunk
  std::unordered_map<uintptr_t, Chunk> chunks_;  // by address
  std::vector<Chunk*> with_room_;                // those with a free page
};

}  // namespace cairn::qcow2
