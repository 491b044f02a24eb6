#include "exports/vhost_user/fault_guard.h"

#include <signal.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>

namespace cairn::vhost_user {
namespace {

// A signal handler may use neither locks nor what grows: a table of fixed size, in which a slot is
// taken when its beginning is not 0.
struct Slot {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::atomic<bool> faulted{false};
};
constexpr int kSlots = 4096;
constexpr uintptr_t kReserved = 1;

std::array<Slot, kSlots> slots;
std::atomic<int> used_slots{0};  // none beyond this many was ever taken
struct sigaction previous_action;

bool replace_memory(uintptr_t address) {
  const int count = used_slots.load(std::memory_order_acquire);
  for (int i = 0; i < count; ++i) {
    Slot& slot = slots[static_cast<std::size_t>(i)];
    const uintptr_t begin = slot.begin.load(std::memory_order_acquire);
    const uintptr_t end = slot.end.load(std::memory_order_acquire);
    if (begin <= kReserved || address < begin || address >= end) {
      continue;
    }
    slot.faulted.store(true, std::memory_order_release);
    // The whole of it: pages may be larger than ours, and what is left is of no use to anybody.
    void* const place = mmap(reinterpret_cast<void*>(begin), end - begin, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    return place != MAP_FAILED;
  }
  return false;
}

void on_bus_error(int number, siginfo_t* info, void* context) {
  const int saved = errno;
  if (info->si_code == BUS_ADRERR && replace_memory(reinterpret_cast<uintptr_t>(info->si_addr))) {
    errno = saved;
    return;
  }
  errno = saved;
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) {
    previous_action.sa_sigaction(number, info, context);
    return;
  }
  if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
    previous_action.sa_handler(number);
    return;
  }
  // The access is repeated when this returns, and ends the program.
  signal(SIGBUS, SIG_DFL);
}

bool install_handler() {
  struct sigaction action{};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  return sigaction(SIGBUS, &action, &previous_action) == 0;
}

}  // namespace

Result<FaultGuard> FaultGuard::watch(void* base, std::size_t length) {
  static const bool installed = install_handler();
  if (!installed) {
    return fail(ENOTSUP, "the signal SIGBUS can not be handled");
  }
  const auto begin = reinterpret_cast<uintptr_t>(base);
  for (int i = 0; i < kSlots; ++i) {
    Slot& slot = slots[static_cast<std::size_t>(i)];
    uintptr_t expected = 0;
    if (!slot.begin.compare_exchange_strong(expected, kReserved)) {
      continue;
    }
    int used = used_slots.load();
    while (used <= i && !used_slots.compare_exchange_weak(used, i + 1)) {
    }
    slot.faulted.store(false, std::memory_order_relaxed);
    slot.end.store(begin + length, std::memory_order_relaxed);
    slot.begin.store(begin, std::memory_order_release);
    return FaultGuard(i);
  }
  return fail(ENOMEM, "too much memory of guests is mapped");
}

bool FaultGuard::faulted() const {
  return slot_ >= 0 &&
         slots[static_cast<std::size_t>(slot_)].faulted.load(std::memory_order_acquire);
}

void FaultGuard::release() {
  if (slot_ >= 0) {
    slots[static_cast<std::size_t>(slot_)].begin.store(0, std::memory_order_release);
    slot_ = -1;
  }
}

}  // namespace cairn::vhost_user
