// The epoll back end, for kernels and containers without io_uring: sockets and polls wait in epoll,
// file operations that can not be done at once run on threads.
//
// Invariants
// - An operation in flight is in exactly one place: the list of its descriptor (state kWaiting),
//   FileThreads (kOnThread), or done_ (kDone), from where wait() completes it.
// - Descriptors are registered for one event at a time (EPOLLONESHOT) and only armed while
// operations
//   wait on them. So a descriptor that is closed and whose number is used again needs no notice.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cassert>
#include <cerrno>
#include <ctime>
#include <utility>
#include <vector>

#include "io/backend.h"
#include "io/fd.h"
#include "io/file_threads.h"

namespace cairn::io {
namespace {

// epoll's event bits are poll's for all that Operation uses.
static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLERR == POLLERR &&
              EPOLLHUP == POLLHUP && EPOLLPRI == POLLPRI && EPOLLRDHUP == POLLRDHUP);

timespec to_timespec(Duration duration) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(duration);
  return {.tv_sec = seconds.count(), .tv_nsec = (duration - seconds).count()};
}

// The events that let an operation go on.
uint32_t interest(const Operation& operation) {
  switch (operation.request.kind) {
    case OperationRequest::Kind::kReceive:
      return EPOLLIN;
    case OperationRequest::Kind::kSend:
      return EPOLLOUT;
    default:
      return operation.request.flags;
  }
}

// A doubly linked list through Operation::next and previous; owns nothing.
struct OperationList {
  Operation* head = nullptr;
  Operation* tail = nullptr;

  void push(Operation& operation) {
    operation.next = nullptr;
    operation.previous = tail;
    (tail != nullptr ? tail->next : head) = &operation;
    tail = &operation;
  }
  void remove(Operation& operation) {
    (operation.previous != nullptr ? operation.previous->next : head) = operation.next;
    (operation.next != nullptr ? operation.next->previous : tail) = operation.previous;
  }
};

class EpollBackend final : public Backend {
 public:
  EpollBackend(Fd epoll_fd, Fd wake_fd)
      : epoll_fd_(std::move(epoll_fd)), wake_fd_(std::move(wake_fd)), threads_(wake_fd_.get()) {}

  ~EpollBackend() override { assert(in_flight_ == 0 && "an operation outlives its reactor"); }

  [[nodiscard]] std::string_view name() const override { return "epoll"; }

  void submit(Operation& operation) override {
    ++in_flight_;
    using Kind = OperationRequest::Kind;
    switch (operation.request.kind) {
      case Kind::kReadv:
      case Kind::kWritev:
        if (operation.request.on_thread || !try_file_now(operation)) {
          start_on_thread(operation);
        }
        break;
      case Kind::kFsync:
      case Kind::kFallocate:
        start_on_thread(operation);
        break;
      case Kind::kReceive:
      case Kind::kSend:
        if (operation.request.poll_first || !try_socket_now(operation)) {
          start_waiting(operation);
        }
        break;
      case Kind::kPoll:
        start_waiting(operation);
        break;
    }
  }

  void cancel(Operation& operation) override {
    if (operation.state == kWaiting) {
      watch_of(operation.request.fd).waiting.remove(operation);
      --waiting_count_;
      done(operation, -ECANCELED);
    } else if (operation.state == kOnThread && threads_.cancel(operation)) {
      done(operation, -ECANCELED);
    }
  }

  void wait(std::optional<Duration> timeout) override {
    if (complete_done()) {
      timeout = Duration::zero();
    }
    const bool sleeps = !timeout || *timeout > Duration::zero();
    if (sleeps || waiting_count_ > 0) {
      poll_kernel(timeout);
      complete_done();
    }
  }

  void wake() override {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake_fd_.get(), &one, sizeof one);
  }

 private:
  enum State : uint32_t { kIdle, kWaiting, kOnThread, kDone };

  // What is known about a descriptor number.
  struct Watch {
    OperationList waiting;
    uint32_t armed = 0;          // the events asked of the kernel, 0 after one came
    bool registered = false;     // as far as we know: it may have been closed since
    bool blocks_writes = false;  // RWF_NOWAIT was refused: its writes go to threads at once
  };

  Watch& watch_of(int fd) {
    const auto index = static_cast<std::size_t>(fd);
    if (index >= watches_.size()) {
      watches_.resize(index + 1);
    }
    return watches_[index];
  }

  void done(Operation& operation, int64_t result) {
    operation.result = result;
    operation.state = kDone;
    done_.push(operation);
  }

  void start_on_thread(Operation& operation) {
    operation.state = kOnThread;
    threads_.start(operation);
  }

  // Does what the page cache can answer at once. False when it would have to wait for a device.
  bool try_file_now(Operation& operation) {
    const OperationRequest& request = operation.request;
    if (request.fd < 0) {
      done(operation, -EBADF);
      return true;
    }
    const auto offset = static_cast<off_t>(request.offset);
    const auto count = static_cast<int>(request.vector_count);
    ssize_t result = -1;
    if (request.kind == OperationRequest::Kind::kReadv) {
      result = preadv2(request.fd, request.vectors, count, offset, RWF_NOWAIT);
    } else {
      // A write with flags is a durable one and waits by its nature.
      Watch& watch = watch_of(request.fd);
      if (request.flags != 0 || watch.blocks_writes) {
        return false;
      }
      result = pwritev2(request.fd, request.vectors, count, offset, RWF_NOWAIT);
      watch.blocks_writes = result < 0 && errno == EOPNOTSUPP;
    }
    if (result < 0 && (errno == EAGAIN || errno == EOPNOTSUPP || errno == EINTR)) {
      return false;
    }
    done(operation, result < 0 ? -errno : result);
    return true;
  }

  // False when the socket has no data, or no room.
  bool try_socket_now(Operation& operation) {
    const int64_t result = try_socket_operation(operation.request);
    if (result == -EAGAIN) {
      return false;
    }
    done(operation, result);
    return true;
  }

  void start_waiting(Operation& operation) {
    const int fd = operation.request.fd;
    if (fd < 0) {
      done(operation, -EBADF);
      return;
    }
    Watch& watch = watch_of(fd);
    const int error = arm(fd, watch, watch.armed | interest(operation));
    if (error == EPERM) {
      // A regular file or a device that never makes anyone wait: ready.
      done(operation, interest(operation) & (POLLIN | POLLOUT));
    } else if (error != 0) {
      done(operation, -error);
    } else {
      operation.state = kWaiting;
      watch.waiting.push(operation);
      ++waiting_count_;
    }
  }

  // Asks the kernel for the next of `events`. Returns an errno or 0.
  int arm(int fd, Watch& watch, uint32_t events) {
    // Even when these events are armed already the kernel is asked again: the descriptor may have
    // been closed, its number used again.
    epoll_event event{.events = events | EPOLLONESHOT, .data = {.fd = fd}};
    int command = watch.registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    int rc = epoll_ctl(epoll_fd_.get(), command, fd, &event);
    if (rc != 0 && (errno == ENOENT || errno == EEXIST)) {
      command = command == EPOLL_CTL_MOD ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
      rc = epoll_ctl(epoll_fd_.get(), command, fd, &event);
    }
    watch.registered = rc == 0;
    watch.armed = rc == 0 ? events : 0;
    return rc == 0 ? 0 : errno;
  }

  void poll_kernel(std::optional<Duration> timeout) {
    std::array<epoll_event, 64> events;
    const int count = wait_for_events(events, timeout);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.fd == wake_fd_.get()) {
        uint64_t unused = 0;
        [[maybe_unused]] const ssize_t got = read(wake_fd_.get(), &unused, sizeof unused);
      } else {
        dispatch(events[i].data.fd, events[i].events);
      }
    }
  }

  // Sleeps with the precision of the clock, unlike epoll_wait() with its milliseconds.
  int wait_for_events(std::array<epoll_event, 64>& events, std::optional<Duration> timeout) {
    if (timeout && *timeout <= Duration::zero()) {
      return epoll_wait(epoll_fd_.get(), events.data(), events.size(), 0);
    }
    if (!timeout) {
      return epoll_wait(epoll_fd_.get(), events.data(), events.size(), -1);
    }
    const timespec span = to_timespec(*timeout);
    if (has_pwait2_) {
      const int count = epoll_pwait2(epoll_fd_.get(), events.data(), events.size(), &span, nullptr);
      if (count >= 0 || (errno != ENOSYS && errno != EPERM)) {
        return count;
      }
      has_pwait2_ = false;  // a kernel before 5.11, or a container that does not know it
    }
    pollfd poll_fd{.fd = epoll_fd_.get(), .events = POLLIN, .revents = 0};
    ppoll(&poll_fd, 1, &span, nullptr);
    return epoll_wait(epoll_fd_.get(), events.data(), events.size(), 0);
  }

  void dispatch(int fd, uint32_t events) {
    Watch& watch = watch_of(fd);
    watch.armed = 0;
    OperationList candidates = std::exchange(watch.waiting, {});
    uint32_t still_wanted = 0;
    while (candidates.head != nullptr) {
      Operation& operation = *candidates.head;
      candidates.remove(operation);
      const uint32_t wanted = interest(operation) | EPOLLERR | EPOLLHUP;
      const bool is_poll = operation.request.kind == OperationRequest::Kind::kPoll;
      if ((events & wanted) != 0 && is_poll) {
        done(operation, events & wanted);
        --waiting_count_;
      } else if ((events & wanted) != 0 && try_socket_now(operation)) {
        --waiting_count_;
      } else {
        watch.waiting.push(operation);  // not its event, or another operation took what there was
        still_wanted |= interest(operation);
      }
    }
    if (still_wanted != 0) {
      rearm(fd, watch, still_wanted);
    }
  }

  void rearm(int fd, Watch& watch, uint32_t events) {
    const int error = arm(fd, watch, events);
    while (error != 0 && watch.waiting.head != nullptr) {
      Operation& operation = *watch.waiting.head;
      watch.waiting.remove(operation);
      --waiting_count_;
      done(operation, -error);
    }
  }

  // True when anything was completed.
  bool complete_done() {
    Operation* next = nullptr;
    for (Operation* operation = threads_.take_done(); operation != nullptr; operation = next) {
      next = operation->next;
      done(*operation, operation->result);
    }
    const bool any = done_.head != nullptr;
    while (done_.head != nullptr) {
      Operation& operation = *done_.head;
      done_.remove(operation);
      --in_flight_;
      operation.waiter.wake();
    }
    return any;
  }

  const Fd epoll_fd_;
  const Fd wake_fd_;
  bool has_pwait2_ = true;
  std::size_t waiting_count_ = 0;
  std::size_t in_flight_ = 0;
  OperationList done_;
  std::vector<Watch> watches_;  // indexed by descriptor number
  FileThreads threads_;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_epoll_backend() {
  Fd epoll_fd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_fd.valid()) {
    return fail_errno(errno, "Could not create an epoll descriptor");
  }
  Fd wake_fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  epoll_event event{.events = EPOLLIN, .data = {.fd = wake_fd.get()}};
  if (!wake_fd.valid() || epoll_ctl(epoll_fd.get(), EPOLL_CTL_ADD, wake_fd.get(), &event) != 0) {
    return fail_errno(errno, "Could not create an event descriptor");
  }
  return std::make_unique<EpollBackend>(std::move(epoll_fd), std::move(wake_fd));
}

}  // namespace cairn::io
