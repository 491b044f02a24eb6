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

// One thread's lists. It has no constructor and no destructor to run, so that reaching it costs no
// more than an address; the Cleaner frees what is in it.
struct Pool {
  std::array<FreeList, kClasses> lists;
  FrameCounts counts;
  bool has_cleaner = false;
  bool gone = false;  // the thread ends: frames that are freed from now on go to the heap
};

constinit thread_local Pool pool;

struct Cleaner {
  Cleaner() { pool.has_cleaner = true; }
  Cleaner(const Cleaner&) = delete;
  Cleaner& operator=(const Cleaner&) = delete;
  ~Cleaner() {
    pool.gone = true;
    for (FreeList& list : pool.lists) {
      while (list.head != nullptr) {
        FreeFrame* frame = list.head;
        list.head = frame->next;
        ::operator delete(frame);
      }
    }
  }
};

// Has the end of this thread clean up.
void add_cleaner() { static thread_local Cleaner cleaner; }

FreeList& list_for(std::size_t size) { return pool.lists[(size - 1) / kClassStep]; }

std::size_t class_size(std::size_t size) {
  return (size + kClassStep - 1) / kClassStep * kClassStep;
}

}  // namespace

void* allocate_frame(std::size_t size) {
  if (!kPooling || size > kLargestFrame) {
    return ::operator new(size);
  }
  ++pool.counts.taken;
  FreeList& list = list_for(size);
  if (list.head == nullptr) {
    ++pool.counts.heap_allocations;
    // Of the class's size always: the frame may end up in the list of another thread.
    return ::operator new(class_size(size));
  }
  FreeFrame* frame = list.head;
  list.head = frame->next;
  --list.length;
  return frame;
}

void free_frame(void* frame, std::size_t size) noexcept {
  if (!kPooling || size > kLargestFrame || pool.gone) {
    ::operator delete(frame);
    return;
  }
  FreeList& list = list_for(size);
  if (list.length >= kIdleFramesPerClass) {
    ::operator delete(frame);
    return;
  }
  if (!pool.has_cleaner) {
    add_cleaner();
  }
  list.head = new (frame) FreeFrame{list.head};
  ++list.length;
}

FrameCounts frame_counts() noexcept { return pool.counts; }

}  // namespace cairn::io
