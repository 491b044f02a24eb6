// Fd: the owner of a file descriptor.
#pragma once

#include <unistd.h>

#include <utility>

namespace cairn::io {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset(other.release());
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

  // Closes what is owned and owns `fd` instead. errno is left alone, so that a failed call's errno
  // survives the clean-up.
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

}  // namespace cairn::io
