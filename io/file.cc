#include "io/file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "io/operation.h"
#include "io/worker_pool.h"

namespace cairn::io {
namespace {

using Kind = OperationRequest::Kind;

bool lives_in_memory(int fd) {
  struct statfs info{};
  if (fd < 0 || fstatfs(fd, &info) != 0) {
    return false;
  }
  switch (static_cast<uint32_t>(info.f_type)) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case HUGETLBFS_MAGIC:
      break;
    default:
      return false;
  }
  // A device node on a tmpfs, as /dev is, is not in memory.
  struct stat status{};
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

// The kernel takes at most IOV_MAX segments at a time; the rest is a short transfer's.
void set_vectors(OperationRequest& request, const IoVector& vector) {
  const auto segments = vector.segments();
  request.vectors = segments.data();
  request.vector_count = static_cast<uint32_t>(std::min<std::size_t>(segments.size(), IOV_MAX));
}

}  // namespace

File::File(Fd fd) : fd_(std::move(fd)), in_memory_(lives_in_memory(fd_.get())) {}

Result<File> File::open_now(const std::string& path, FileOpenOptions options) {
  const int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (options.writable ? O_RDWR : O_RDONLY) |
                    (options.direct ? O_DIRECT : 0) | (options.create ? O_CREAT : 0) |
                    (options.exclusive ? O_EXCL : 0) | (options.truncate ? O_TRUNC : 0) |
                    (options.follow_links ? 0 : O_NOFOLLOW);
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags, options.mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) {
    return fail_errno(errno, "Could not open '{}'", path);
  }
  Fd owned(fd);
  // Non-blocking was for the open alone: io_uring would not wait for the device either.
  if (fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return fail_errno(errno, "Could not open '{}'", path);
  }
  return File(std::move(owned));
}

Task<Result<File>> File::open(std::string path, FileOpenOptions options) {
  auto work = WorkerPool::shared().run([&path, options] { return open_now(path, options); });
  co_return co_await work;
}

Task<Result<uint64_t>> File::read_at(IoVector vector, uint64_t offset) const {
  OperationRequest request{.kind = Kind::kReadv, .in_memory = in_memory_, .fd = fd_.get()};
  uint64_t done = 0;
  while (!vector.empty()) {
    set_vectors(request, vector);
    request.offset = offset + done;
    OperationAwaiter operation(request);
    const int64_t result = co_await operation;
    if (result == -EINTR) {
      continue;
    }
    if (result < 0) {
      co_return std::unexpected(Error::from_errno(static_cast<int>(-result)));
    }
    if (result == 0) {
      break;
    }
    const auto count = static_cast<uint64_t>(result);
    done += count;
    if (count == vector.size()) {
      break;
    }
    vector = vector.slice(count, vector.size() - count);
  }
  co_return done;
}

Task<Result<void>> File::write_at(IoVector vector, uint64_t offset, uint32_t flags) const {
  OperationRequest request{
      .kind = Kind::kWritev, .in_memory = in_memory_, .fd = fd_.get(), .flags = flags};
  while (!vector.empty()) {
    set_vectors(request, vector);
    request.offset = offset;
    OperationAwaiter operation(request);
    const int64_t result = co_await operation;
    if (result == -EINTR) {
      continue;
    }
    if (result <= 0) {
      // A write of something that writes nothing would go on for ever.
      co_return std::unexpected(Error::from_errno(result < 0 ? static_cast<int>(-result) : EIO));
    }
    const auto count = static_cast<uint64_t>(result);
    if (count == vector.size()) {
      break;
    }
    offset += count;
    vector = vector.slice(count, vector.size() - count);
  }
  co_return Result<void>();
}

Task<Result<void>> File::sync(uint32_t flags) const {
  const OperationRequest request{
      .kind = Kind::kFsync, .in_memory = in_memory_, .fd = fd_.get(), .flags = flags};
  int64_t result = -EINTR;
  while (result == -EINTR) {
    OperationAwaiter operation(request);
    result = co_await operation;
  }
  if (result < 0) {
    co_return std::unexpected(Error::from_errno(static_cast<int>(-result)));
  }
  co_return Result<void>();
}

Task<Result<void>> File::sync_data() const { return sync(OperationRequest::kDataOnly); }

Task<Result<void>> File::sync_all() const { return sync(0); }

Task<Result<void>> File::allocate(uint32_t mode, uint64_t offset, uint64_t length) const {
  const OperationRequest request{.kind = Kind::kFallocate,
                                 .in_memory = in_memory_,
                                 .fd = fd_.get(),
                                 .flags = mode,
                                 .offset = offset,
                                 .length = length};
  int64_t result = -EINTR;
  while (result == -EINTR) {
    OperationAwaiter operation(request);
    result = co_await operation;
  }
  if (result < 0) {
    co_return std::unexpected(Error::from_errno(static_cast<int>(-result)));
  }
  co_return Result<void>();
}

Task<Result<void>> File::truncate(uint64_t size) const {
  if (size > static_cast<uint64_t>(INT64_MAX)) {
    co_return std::unexpected(Error::from_errno(EFBIG));
  }
  const int fd = fd_.get();
  auto call = [fd, size] {
    int rc = -1;
    do {
      rc = ftruncate(fd, static_cast<off_t>(size));
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : errno;
  };
  int error = 0;
  if (in_memory_) {
    error = call();
  } else {
    auto work = WorkerPool::shared().run(call);
    error = co_await work;
  }
  if (error != 0) {
    co_return std::unexpected(Error::from_errno(error));
  }
  co_return Result<void>();
}

Result<uint64_t> File::size() const {
  const off_t end = lseek(fd_.get(), 0, SEEK_END);
  if (end < 0) {
    return std::unexpected(Error::from_errno(errno));
  }
  return static_cast<uint64_t>(end);
}

}  // namespace cairn::io
