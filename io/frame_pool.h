// Memory for coroutine frames: a per-thread free list per size class, so that starting a Task costs
// a few instructions instead of an allocation. Frames above kLargestFrame come from the heap.
//
// A frame may be freed on another thread than the one that allocated it; it then joins that
// thread's lists. Builds with AddressSanitizer bypass the lists, so that use after free is seen.
#pragma once

#include <cstddef>

namespace cairn::io {

[[nodiscard]] void* allocate_frame(std::size_t size);
void free_frame(void* frame, std::size_t size) noexcept;

// How many frames this thread has taken from the pool and from the heap since it started; the
// request-cost bench reads it.
struct FrameCounts {
  std::size_t taken = 0;
  std::size_t heap_allocations = 0;
};
[[nodiscard]] FrameCounts frame_counts() noexcept;

}  // namespace cairn::io
