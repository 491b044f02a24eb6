#include "io/reactor.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <thread>

namespace cairn::io {
namespace {

thread_local Reactor* current_reactor = nullptr;

// Tells the processor that this is a loop that waits.
void relax_processor() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Result<BackendKind> parse_backend_kind(std::string_view text) {
  if (text == "auto") {
    return BackendKind::kAuto;
  }
  if (text == "io_uring") {
    return BackendKind::kIoUring;
  }
  if (text == "epoll") {
    return BackendKind::kEpoll;
  }
  return fail(EINVAL, "Unknown I/O back end '{}': use auto, io_uring or epoll", text);
}

Result<std::unique_ptr<Reactor>> Reactor::create(BackendKind kind) {
  if (kind != BackendKind::kEpoll) {
    auto uring = make_uring_backend();
    if (uring) {
      return std::make_unique<Reactor>(std::move(*uring));
    }
    if (kind == BackendKind::kIoUring) {
      return pass(uring);
    }
  }
  auto epoll = make_epoll_backend();
  if (!epoll) {
    return pass(epoll);
  }
  return std::make_unique<Reactor>(std::move(*epoll));
}

Reactor::Reactor(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {
  assert(current_reactor == nullptr);
  current_reactor = this;
}

Reactor::~Reactor() {
  assert(current_reactor == this);
  assert(timers_.empty());
  // A thread whose post() has been answered already may still be on its way out of it.
  while (posters_.load(std::memory_order_acquire) != 0) {
    std::this_thread::yield();
  }
  current_reactor = nullptr;
}

Reactor& Reactor::current() {
  assert(current_reactor != nullptr);
  return *current_reactor;
}

Reactor* Reactor::current_or_null() { return current_reactor; }

void Reactor::run_once() {
  // The kernel comes first, so that block_on() sees the end of its task before the next sleep.
  const auto timeout = time_to_sleep();
  if (timeout && *timeout <= Duration::zero()) {
    backend_->wait(timeout);
  } else if (!idle_poll_.enabled()) {
    sleep(timeout);
  } else {
    const TimePoint begin = now();
    if (!look_for_work(timeout ? std::min(*timeout, idle_poll_.window()) : idle_poll_.window())) {
      sleep(timeout);
    }
    idle_poll_.waited(now() - begin, std::exchange(resumptions_, 0));
  }
  run_remote();
  run_timers();
  inline_budget_ = kInlineBudget;
  copies_.next_turn();
  run_ready();
}

void Reactor::sleep(std::optional<Duration> timeout) {
  // Either post() sees that we sleep and wakes us, or we see here what it has posted.
  sleeping_.store(true, std::memory_order_seq_cst);
  if (remote_.load(std::memory_order_seq_cst) != nullptr) {
    timeout = Duration::zero();
  }
  backend_->wait(timeout);
  sleeping_.store(false, std::memory_order_relaxed);
}

// Looks at the kernel again and again, for `span` at most; true when there is something to do.
bool Reactor::look_for_work(Duration span) {
  if (span <= Duration::zero()) {
    return false;
  }
  const TimePoint end = now() + span;
  do {
    backend_->wait(Duration::zero());
    if (!ready_.empty() || remote_.load(std::memory_order_relaxed) != nullptr) {
      return true;
    }
    relax_processor();
  } while (now() < end);
  return false;
}

std::optional<Duration> Reactor::time_to_sleep() const {
  if (!ready_.empty() || remote_.load(std::memory_order_relaxed) != nullptr) {
    return Duration::zero();
  }
  if (timers_.empty()) {
    return std::nullopt;
  }
  return std::max(timers_.front()->deadline_ - now(), Duration::zero());
}

void Reactor::run_ready() {
  for (int i = 0; i < kReadyBatch; ++i) {
    Waiter* waiter = ready_.pop();
    if (waiter == nullptr) {
      return;
    }
    ++resumptions_;
    waiter->handle().resume();
  }
}

void Reactor::post(RemoteWork& work) {
  posters_.fetch_add(1, std::memory_order_relaxed);
  RemoteWork* head = remote_.load(std::memory_order_relaxed);
  do {
    work.next_remote_ = head;
  } while (!remote_.compare_exchange_weak(head, &work, std::memory_order_seq_cst,
                                          std::memory_order_relaxed));
  // A reactor that runs will look before it sleeps; one wake-up ends a sleep.
  if (sleeping_.load(std::memory_order_seq_cst) &&
      sleeping_.exchange(false, std::memory_order_seq_cst)) {
    backend_->wake();
  }
  posters_.fetch_sub(1, std::memory_order_release);
}

void Reactor::run_remote() {
  if (remote_.load(std::memory_order_relaxed) == nullptr) {
    return;
  }
  RemoteWork* newest_first = remote_.exchange(nullptr, std::memory_order_acquire);
  RemoteWork* oldest_first = nullptr;
  while (newest_first != nullptr) {
    RemoteWork* work = std::exchange(newest_first, newest_first->next_remote_);
    work->next_remote_ = oldest_first;
    oldest_first = work;
  }
  while (oldest_first != nullptr) {
    RemoteWork* work = std::exchange(oldest_first, oldest_first->next_remote_);
    work->run();
  }
}

void Reactor::run_timers() {
  if (timers_.empty()) {
    return;
  }
  const TimePoint reached = now();
  while (!timers_.empty() && timers_.front()->deadline_ <= reached) {
    TimerEntry& timer = *timers_.front();
    remove_timer(timer);
    timer.on_expired();
  }
}

bool Reactor::earlier(const TimerEntry& a, const TimerEntry& b) {
  return a.deadline_ != b.deadline_ ? a.deadline_ < b.deadline_ : a.sequence_ < b.sequence_;
}

void Reactor::add_timer(TimerEntry& timer, TimePoint deadline) {
  assert(timer.heap_index_ == SIZE_MAX);
  timer.deadline_ = deadline;
  timer.sequence_ = timer_sequence_++;
  timer.heap_index_ = timers_.size();
  timers_.push_back(&timer);
  sift_up(timer.heap_index_);
}

void Reactor::remove_timer(TimerEntry& timer) {
  const std::size_t index = timer.heap_index_;
  if (index == SIZE_MAX) {
    return;
  }
  timer.heap_index_ = SIZE_MAX;
  TimerEntry* last = timers_.back();
  timers_.pop_back();
  if (last != &timer) {
    timers_[index] = last;
    last->heap_index_ = index;
    sift_up(index);
    sift_down(last->heap_index_);
  }
}

void Reactor::sift_up(std::size_t index) {
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (!earlier(*timers_[index], *timers_[parent])) {
      return;
    }
    std::swap(timers_[index], timers_[parent]);
    timers_[index]->heap_index_ = index;
    timers_[parent]->heap_index_ = parent;
    index = parent;
  }
}

void Reactor::sift_down(std::size_t index) {
  for (;;) {
    std::size_t smallest = index;
    for (std::size_t child = 2 * index + 1; child <= 2 * index + 2; ++child) {
      if (child < timers_.size() && earlier(*timers_[child], *timers_[smallest])) {
        smallest = child;
      }
    }
    if (smallest == index) {
      return;
    }
    std::swap(timers_[index], timers_[smallest]);
    timers_[index]->heap_index_ = index;
    timers_[smallest]->heap_index_ = smallest;
    index = smallest;
  }
}

}  // namespace cairn::io
