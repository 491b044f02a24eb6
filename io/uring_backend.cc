// The io_uring back end: submissions are batched and handed over when the reactor waits.
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>

#include <liburing.h>

#include "io/backend.h"

namespace cairn::io {
namespace {

constexpr unsigned kEntries = 256;

enum State : uint32_t { kIdle, kInFlight, kDone };

class UringBackend final : public Backend {
 public:
  UringBackend() = default;

  ~UringBackend() override {
    assert(in_flight_ == 0 && "an operation outlives its reactor");
    if (wake_fd_ >= 0) {
      io_uring_queue_exit(&ring_);
      close(wake_fd_);
    }
  }

  Result<void> init() {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL;
    int rc = io_uring_queue_init_params(kEntries, &ring_, &params);
    if (rc == 0) {
      poll_first_flag_ = IORING_RECVSEND_POLL_FIRST;
    } else if (rc == -EINVAL) {  // kernels before 6.1
      params = {};
      rc = io_uring_queue_init_params(kEntries, &ring_, &params);
    }
    if (rc < 0) {
      return fail_errno(-rc, "Could not set up io_uring");
    }
    constexpr unsigned kNeeded =
        IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL | IORING_FEAT_EXT_ARG | IORING_FEAT_RW_CUR_POS;
    if ((params.features & kNeeded) != kNeeded) {
      io_uring_queue_exit(&ring_);
      return fail(ENOSYS, "The kernel's io_uring is too old (5.11 is needed)");
    }
    // In blocking mode: io_uring would fail a read of a non-blocking one instead of waiting.
    wake_fd_ = eventfd(0, EFD_CLOEXEC);
    if (wake_fd_ < 0) {
      const int error = errno;
      io_uring_queue_exit(&ring_);
      return fail_errno(error, "Could not create an event descriptor");
    }
    io_uring_register_ring_fd(&ring_);  // makes calls a little cheaper; needs 5.18
    arm_wake();
    return {};
  }

  [[nodiscard]] std::string_view name() const override { return "io_uring"; }

  void submit(Operation& operation) override {
    ++in_flight_;
    operation.state = kInFlight;
    io_uring_sqe* sqe = next_sqe();
    prepare(*sqe, operation.request);
    io_uring_sqe_set_data(sqe, &operation);
    if (operation.request.on_thread) {
      copy_elsewhere(*sqe, operation.request);
    }
  }

  void cancel(Operation& operation) override {
    if (operation.state != kInFlight) {
      return;  // it is done, and the coroutine about to run
    }
    io_uring_sqe* sqe = next_sqe();
    io_uring_prep_cancel(sqe, &operation, 0);
    io_uring_sqe_set_data(sqe, nullptr);
  }

  void wait(std::optional<Duration> timeout) override {
    if (io_uring_cq_ready(&ring_) > 0) {
      // Something is there to run already: hand over the batch, but do not sleep.
      timeout = Duration::zero();
    }
    if (timeout && *timeout <= Duration::zero()) {
      if (io_uring_sq_ready(&ring_) > 0 || kernel_has_work()) {
        io_uring_submit_and_get_events(&ring_);
      }
    } else if (!timeout) {
      io_uring_submit_and_wait(&ring_, 1);
    } else {
      const auto seconds = std::chrono::floor<std::chrono::seconds>(*timeout);
      __kernel_timespec span{.tv_sec = seconds.count(), .tv_nsec = (*timeout - seconds).count()};
      io_uring_cqe* unused = nullptr;
      io_uring_submit_and_wait_timeout(&ring_, &unused, 1, &span, nullptr);
    }
    reap();
  }

  void wake() override {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof one);
  }

 private:
  // Completions that are not in the queue yet: they are put there by our next call, as
  // IORING_SETUP_DEFER_TASKRUN means, or when the queue had overflowed.
  bool kernel_has_work() const {
    return (IO_URING_READ_ONCE(*ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) !=
           0;
  }

  io_uring_sqe* next_sqe() {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    while (sqe == nullptr) {
      // The ring is full. When the completion queue has overflowed, submitting fails with EBUSY
      // until completions are taken.
      if (io_uring_submit(&ring_) == -EBUSY) {
        reap();
      }
      sqe = io_uring_get_sqe(&ring_);
    }
    return sqe;
  }

  // The kernel's workers are to copy while this thread goes on. Unasked the kernel uses one more
  // only when those it has sleep, which copying does not do. Writes to one file exclude each other:
  // a second worker would but get in the way.
  void copy_elsewhere(io_uring_sqe& sqe, const OperationRequest& request) {
    if (request.kind == OperationRequest::Kind::kReadv) {
      sqe.flags |= IOSQE_ASYNC;
    }
    io_uring_submit(&ring_);
  }

  void prepare(io_uring_sqe& sqe, const OperationRequest& request) const {
    using Kind = OperationRequest::Kind;
    switch (request.kind) {
      case Kind::kReadv:
        io_uring_prep_readv(&sqe, request.fd, request.vectors, request.vector_count,
                            request.offset);
        break;
      case Kind::kWritev:
        io_uring_prep_writev2(&sqe, request.fd, request.vectors, request.vector_count,
                              request.offset, static_cast<int>(request.flags));
        break;
      case Kind::kFsync:
        io_uring_prep_fsync(
            &sqe, request.fd,
            request.flags == OperationRequest::kDataOnly ? IORING_FSYNC_DATASYNC : 0);
        break;
      case Kind::kFallocate:
        // liburing 2.3 declares both numbers as off_t.
        io_uring_prep_fallocate(&sqe, request.fd, static_cast<int>(request.flags),
                                static_cast<off_t>(request.offset),
                                static_cast<off_t>(request.length));
        break;
      case Kind::kReceive:
        io_uring_prep_recv(&sqe, request.fd, request.buffer, request.length,
                           static_cast<int>(request.flags));
        sqe.ioprio = request.poll_first ? poll_first_flag_ : 0;
        break;
      case Kind::kSend:
        io_uring_prep_sendmsg(&sqe, request.fd, request.message, request.flags | MSG_NOSIGNAL);
        sqe.ioprio = request.poll_first ? poll_first_flag_ : 0;
        break;
      case Kind::kPoll:
        io_uring_prep_poll_add(&sqe, request.fd, request.flags);
        break;
    }
  }

  void reap() {
    io_uring_cqe* cqe = nullptr;
    unsigned head = 0;
    unsigned count = 0;
    bool rearm = false;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      ++count;
      if (cqe->user_data == kWakeTag) {
        rearm = true;
      } else if (auto* operation = static_cast<Operation*>(io_uring_cqe_get_data(cqe))) {
        --in_flight_;
        operation->state = kDone;
        operation->result = cqe->res;
        operation->waiter.wake();
      }
    }
    io_uring_cq_advance(&ring_, count);
    if (rearm) {
      arm_wake();
    }
  }

  // Reads the event descriptor again. The read is what empties it.
  void arm_wake() {
    io_uring_sqe* sqe = next_sqe();
    io_uring_prep_read(sqe, wake_fd_, &wake_count_, sizeof wake_count_, 0);
    io_uring_sqe_set_data64(sqe, kWakeTag);
  }

  static constexpr uint64_t kWakeTag = 1;

  io_uring ring_{};
  std::size_t in_flight_ = 0;
  int wake_fd_ = -1;
  uint16_t poll_first_flag_ = 0;  // 0 on kernels that do not know it
  uint64_t wake_count_ = 0;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_uring_backend() {
  auto backend = std::make_unique<UringBackend>();
  if (auto ready = backend->init(); !ready) {
    return pass(ready);
  }
  return backend;
}

}  // namespace cairn::io
