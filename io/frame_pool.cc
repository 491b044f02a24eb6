#include "io/frame_pool.h"

#include <array>
#include <new>

namespace cairn::io {
namespace {

constexpr std::size_t kClassStep = 64;
constexpr std::size_t kLargestFrame = 4096;
constexpr std::size_t kClasses = kLargestFrame / kClassStep;
// A thread keeps at most this many idle frames a class; the rest goes back to the heap.
constexpr std::size_t kIdleFramesPerClass = 256;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kPooling = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kPooling = false;
#else
constexpr bool kPooling = true;
#endif
#else
constexpr bool kPooling = true;
#endif

struct FreeFrame {
  FreeFrame* next;
};

struct FreeList {
  FreeFrame* head = nullptr;
  std::size_t length = 0;
};

// Set when the thread's pool has been destroyed: frames that are freed later go to the heap.
thread_local bool pool_gone = false;

class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() {
    pool_gone = true;
    for (FreeList& list : lists_) {
      while (list.head != nullptr) {
        FreeFrame* frame = list.head;
        list.head = frame->next;
        ::operator delete(frame);
      }
    }
  }

  FreeList& list_for(std::size_t size) { return lists_[(size - 1) / kClassStep]; }

  FrameCounts counts;

 private:
  std::array<FreeList, kClasses> lists_;
};

thread_local Pool pool;

std::size_t class_size(std::size_t size) {
  return (size + kClassStep - 1) / kClassStep * kClassStep;
}

}  // namespace

void* allocate_frame(std::size_t size) {
  if (!kPooling || size > kLargestFrame || pool_gone) {
    return ::operator new(size);
  }
  ++pool.counts.taken;
  FreeList& list = pool.list_for(size);
  if (list.head == nullptr) {
    ++pool.counts.heap_allocations;
    return ::operator new(class_size(size));
  }
  FreeFrame* frame = list.head;
  list.head = frame->next;
  --list.length;
  return frame;
}

void free_frame(void* frame, std::size_t size) noexcept {
  if (!kPooling || size > kLargestFrame || pool_gone) {
    ::operator delete(frame);
    return;
  }
  FreeList& list = pool.list_for(size);
  if (list.length >= kIdleFramesPerClass) {
    ::operator delete(frame);
    return;
  }
  list.head = new (frame) FreeFrame{list.head};
  ++list.length;
}

FrameCounts frame_counts() noexcept { return pool.counts; }

}  // namespace cairn::io
