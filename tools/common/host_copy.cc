#include "tools/common/host_copy.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "block/driver_table.h"
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
  const block::Node& node = target.node();
  if (node.info().name != std::string_view("raw") || !is_plain(node) || target.length() == 0) {
    co_return nullptr;
  }
  const Result<block::BlockStatus> status = co_await target.status(0, target.length());
  if (!status || status->host == nullptr || status->host->info().name != std::string_view("file")) {
    co_return nullptr;
  }
  const std::string& path = status->host->filename();
  io::Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) {
    co_return nullptr;
  }
  co_return std::unique_ptr<HostCopy>(new HostCopy(path, std::move(fd), status->host_offset));
}

io::Task<bool> HostCopy::copy(const block::Node& from, uint64_t from_offset, uint64_t to,
                              uint64_t length) {
  const int source = sources_.find(from);
  if (!possible_ || source < 0) {
    co_return false;
  }
  used_ = true;
  auto work = io::WorkerPool::shared().run(
      [in = source, from_offset, out = target_.get(), at = begin_ + to, length] {
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

io::Task<Result<void>> HostCopy::flush() {
  if (!used_) {
    co_return Result<void>();
  }
  auto work =
      io::WorkerPool::shared().run([fd = target_.get()] { return fdatasync(fd) == 0 ? 0 : errno; });
  const int error = co_await work;
  co_return error == 0 ? Result<void>() : fail_errno(error, "Could not flush '{}'", path_);
}

}  // namespace cairn::tools
