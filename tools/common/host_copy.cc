#include "tools/common/host_copy.h"

#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "io/worker_pool.h"

namespace cairn::tools {
namespace {

// 0, an errno, or EIO when the source ends too early.
int copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t length) {
  auto in = static_cast<off_t>(from_offset);
  auto out = static_cast<off_t>(to_offset);
  while (length > 0) {
    const ssize_t count = copy_file_range(from, &in, to, &out, length, 0);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return count < 0 ? errno : EIO;
    }
    length -= static_cast<uint64_t>(count);
  }
  return 0;
}

}  // namespace

io::Task<std::unique_ptr<HostCopy>> HostCopy::create(block::Edge& target) {
  std::optional<RawFile> file = co_await open_raw_file(target);
  co_return file ? std::unique_ptr<HostCopy>(new HostCopy(std::move(*file))) : nullptr;
}

io::Task<bool> HostCopy::copy(const block::Node& from, uint64_t from_offset, uint64_t to,
                              uint64_t length) {
  const int source = sources_.find(from);
  if (!possible_ || source < 0) {
    co_return false;
  }
  used_ = true;
  auto work = io::WorkerPool::shared().run(
      [in = source, from_offset, out = target_.fd.get(), at = target_.begin + to, length] {
        return copy_range(in, from_offset, out, at, length);
      });
  const int error = co_await work;
  // Two file systems, or one that can not: it is not asked again. Whatever else is wrong will show
  // when the piece is read and written.
  if (error == EXDEV || error == EINVAL || error == EOPNOTSUPP || error == ENOSYS) {
    possible_ = false;
  }
  co_return error == 0;
}

}  // namespace cairn::tools
