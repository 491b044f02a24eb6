#include "tools/common/file_copy.h"

#include <unistd.h>

#include <cerrno>

#include "io/worker_pool.h"

namespace cairn::tools {

io::Task<Result<void>> FileCopy::flush() {
  if (!used_) {
    co_return Result<void>();
  }
  auto work = io::WorkerPool::shared().run(
      [fd = target_.fd.get()] { return fdatasync(fd) == 0 ? 0 : errno; });
  const int error = co_await work;
  co_return error == 0 ? Result<void>() : fail_errno(error, "Could not flush '{}'", target_.path);
}

}  // namespace cairn::tools
