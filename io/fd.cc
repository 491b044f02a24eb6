#include "io/fd.h"

#include <cerrno>

namespace cairn::io {

void Fd::reset(int fd) noexcept {
  if (fd_ >= 0) {
    const int error = errno;
    close(fd_);
    errno = error;
  }
  fd_ = fd;
}

}  // namespace cairn::io
