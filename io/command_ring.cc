#include "io/command_ring.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>

#include <liburing.h>

namespace cairn::io {
namespace {

class UringCommandRing final : public CommandRing {
 public:
  explicit UringCommandRing(int descriptor) : descriptor_(descriptor) {}
  ~UringCommandRing() override {
    if (made_) {
      io_uring_queue_exit(&ring_);
    }
  }

  Result<void> init(unsigned entries) {
    io_uring_params params{};
    params.flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_CLAMP;
    const int rc = io_uring_queue_init_params(entries, &ring_, &params);
    if (rc < 0) {
      return fail_errno(-rc, "Could not set up io_uring for commands");
    }
    made_ = true;
    io_uring_register_ring_fd(&ring_);  // makes calls a little cheaper
    return {};
  }

  [[nodiscard]] int descriptor() const override { return ring_.ring_fd; }

  void add(const Command& command) override {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    while (sqe == nullptr) {
      io_uring_submit(&ring_);
      sqe = io_uring_get_sqe(&ring_);
    }
    constexpr std::size_t kLargeEntry = 128;
    std::memset(sqe, 0, kLargeEntry);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = descriptor_;
    sqe->cmd_op = command.operation;
    sqe->addr = reinterpret_cast<uintptr_t>(command.address);
    sqe->len = command.length;
    sqe->user_data = command.tag;
    assert(command.body.size() <= kBodyBytes);
    std::ranges::copy(command.body, reinterpret_cast<std::byte*>(sqe->cmd));
  }

  void submit() override { io_uring_submit_and_get_events(&ring_); }

  [[nodiscard]] std::optional<Completion> take() override {
    io_uring_cqe* cqe = nullptr;
    if (io_uring_peek_cqe(&ring_, &cqe) != 0) {
      return std::nullopt;
    }
    const Completion completion{.tag = cqe->user_data, .result = cqe->res};
    io_uring_cqe_seen(&ring_, cqe);
    return completion;
  }

 private:
  const int descriptor_;
  io_uring ring_{};
  bool made_ = false;
};

}  // namespace

Result<std::unique_ptr<CommandRing>> make_command_ring(int descriptor, unsigned entries) {
  auto ring = std::make_unique<UringCommandRing>(descriptor);
  if (auto ready = ring->init(entries); !ready) {
    return pass(ready);
  }
  return ring;
}

}  // namespace cairn::io
