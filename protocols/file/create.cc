// Creating image files.
#include "protocols/file/create.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "block/create_options.h"
#include "io/fd.h"
#include "io/worker_pool.h"
#include "protocols/file/image_lock.h"

namespace cairn::file {

namespace {

using block::PermissionSet;
using block::Preallocation;

constexpr uint64_t kSector = 512;
constexpr uint64_t kFirstBlock = 4096;
constexpr std::size_t kZeroPiece = 1 << 20;

std::string_view mode_name(Preallocation mode) {
  constexpr std::array<std::string_view, 4> kNames = {"off", "metadata", "falloc", "full"};
  return kNames.at(static_cast<std::size_t>(mode));
}

// 0 or an errno.
int write_zeroes_out(int fd, uint64_t from, uint64_t to) {
  const std::vector<std::byte> zeroes(std::min<uint64_t>(kZeroPiece, to - from));
  while (from < to) {
    const ssize_t written = pwrite(fd, zeroes.data(), std::min<uint64_t>(zeroes.size(), to - from),
                                   static_cast<off_t>(from));
    if (written < 0 && errno != EINTR) {
      return errno;
    }
    from += written > 0 ? static_cast<uint64_t>(written) : 0;
  }
  return fdatasync(fd) == 0 ? 0 : errno;
}

Result<void> allocate_space(int fd, uint64_t from, uint64_t to, Preallocation mode) {
  if (mode == Preallocation::kFalloc) {
    if (fallocate(fd, 0, static_cast<off_t>(from), static_cast<off_t>(to - from)) != 0) {
      return fail_errno(errno, "Could not preallocate data for the new file");
    }
  } else if (mode == Preallocation::kFull) {
    if (const int error = write_zeroes_out(fd, from, to); error != 0) {
      return fail_errno(error, "Could not write zeros for preallocation");
    }
  }
  return {};
}

// File attributes are wishes: file systems that do not know them say so, and that is fine. They
// have to be set while the file is empty.
void set_attributes(int fd, const CreateParameters& parameters) {
  if (parameters.no_cow) {
    int flags = 0;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
      flags |= FS_NOCOW_FL;
      (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
    }
  }
  if (parameters.extent_size_hint > 0) {
    fsxattr attributes = {};
    if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) == 0) {
      attributes.fsx_xflags |= FS_XFLAG_EXTSIZE;
      attributes.fsx_extsize = static_cast<uint32_t>(parameters.extent_size_hint);
      (void)ioctl(fd, FS_IOC_FSSETXATTR, &attributes);
    }
  }
}

Result<void> lock_for_creation(int fd) {
  if (!image_locks_supported()) {
    return {};
  }
  // Closing the file drops the locks.
  ImageLock lock;
  const LockSet wanted{PermissionSet::kWrite | PermissionSet::kResize, PermissionSet::kResize};
  auto locked = lock.take(fd, wanted);
  return !locked && !locks_missing(locked.error().code()) ? locked : Result<void>{};
}

Result<void> fill_new_file(int fd, const CreateParameters& parameters) {
  if (auto locked = lock_for_creation(fd); !locked) {
    return locked;
  }
  if (ftruncate(fd, 0) != 0) {
    return fail_errno(errno, "Could not truncate file");
  }
  set_attributes(fd, parameters);
  auto result = change_file_length(fd, 0, parameters.size, parameters.preallocation);
  if (result && parameters.size > 0 && parameters.preallocation != Preallocation::kFull) {
    // With a first block that is really there the alignment that direct I/O needs can be found out.
    const int error = write_zeroes_out(fd, 0, std::min(parameters.size, kFirstBlock));
    if (error != 0) {
      return fail_errno(error, "Could not write to the new file");
    }
  }
  return result;
}

Result<void> check_device(int fd, uint64_t size) {
  uint64_t length = 0;
  if (ioctl(fd, BLKGETSIZE64, &length) != 0) {
    return fail_errno(errno, "Could not get the size of the device");
  }
  if (length < size) {
    return fail(EINVAL, "Cannot grow device files");
  }
  return {};
}

struct OpenedFile {
  io::Fd fd;
  bool is_new = false;
  bool is_device = false;
};

// The file to be, which is made when it is not there, and loses nothing when it is.
Result<OpenedFile> open_for_creation(const std::string& path) {
  constexpr int kFlags = O_RDWR | O_CREAT | O_CLOEXEC;
  OpenedFile file{.fd = io::Fd(open(path.c_str(), kFlags | O_EXCL, 0644))};
  file.is_new = file.fd.valid();
  if (!file.is_new && errno == EEXIST) {
    file.fd = io::Fd(open(path.c_str(), kFlags, 0644));
  }
  struct stat status = {};
  if (!file.fd.valid() || fstat(file.fd.get(), &status) != 0) {
    return fail_errno(errno, "Could not create '{}'", path);
  }
  file.is_device = S_ISBLK(status.st_mode);
  if (!file.is_device && !S_ISREG(status.st_mode)) {
    return fail_errno(EINVAL, "Could not resize file");  // the field's word for what has no size
  }
  return file;
}

Result<void> name_user(Result<void> result, const std::string& path) {
  if (!result && result.error().code() == EAGAIN) {
    return std::unexpected(
        std::move(result.error()).with_hint("Is another process using the image [" + path + "]?"));
  }
  return result;
}

// Runs on a thread that may block.
Result<void> create_file(const CreateParameters& parameters) {
  Result<OpenedFile> file = open_for_creation(parameters.path);
  if (!file) {
    return pass(file);
  }
  if (file->is_device) {
    return check_device(file->fd.get(), parameters.size);
  }
  auto result = fill_new_file(file->fd.get(), parameters);
  if (!result && file->is_new) {
    (void)unlink(parameters.path.c_str());
  }
  return name_user(std::move(result), parameters.path);
}

Result<Preallocation> parse_preallocation(const std::string& text) {
  for (const Preallocation mode : {Preallocation::kOff, Preallocation::kMetadata,
                                   Preallocation::kFalloc, Preallocation::kFull}) {
    if (text == mode_name(mode)) {
      return mode;
    }
  }
  return fail(EINVAL, "invalid parameter value: {}", text);
}

Result<CreateParameters> parse_options(std::string filename, const block::CreateOptions& options) {
  CreateParameters parameters;
  parameters.path = std::move(filename);
  const uint64_t wanted = options.number("size").value_or(0);
  const auto size =
      options.exact() ? std::optional<uint64_t>(wanted) : checked_align_up(wanted, kSector);
  if (!size || *size > static_cast<uint64_t>(INT64_MAX)) {
    return fail_errno(EINVAL, "Could not resize file");
  }
  parameters.size = *size;
  auto mode = parse_preallocation(options.string("preallocation").value_or("off"));
  if (!mode) {
    return pass(mode);
  }
  parameters.preallocation = *mode;
  parameters.no_cow = options.boolean("nocow").value_or(false);
  parameters.extent_size_hint =
      options.number("extent_size_hint").value_or(parameters.extent_size_hint);
  if (parameters.extent_size_hint > UINT32_MAX) {
    return fail(EINVAL, "Extent size hint is too large");
  }
  return parameters;
}

}  // namespace

Result<void> check_creation(const std::string& path) {
  const Result<OpenedFile> file = open_for_creation(path);
  if (!file) {
    return std::unexpected(file.error());
  }
  if (file->is_new) {
    (void)unlink(path.c_str());
  }
  return file->is_device ? Result<void>() : name_user(lock_for_creation(file->fd.get()), path);
}

Result<void> change_file_length(int fd, uint64_t from, uint64_t to, Preallocation mode) {
  if (mode != Preallocation::kOff && to < from) {
    return fail(ENOTSUP, "Cannot use preallocation for shrinking files");
  }
  if (mode == Preallocation::kMetadata) {
    return fail(ENOTSUP, "Unsupported preallocation mode: metadata");
  }
  // Space first, where that is possible: fallocate() makes the file longer only when it succeeds.
  if (mode != Preallocation::kFalloc && ftruncate(fd, static_cast<off_t>(to)) != 0) {
    return fail_errno(errno, "Could not resize file");
  }
  if (to <= from) {
    return {};
  }
  auto allocated = allocate_space(fd, from, to, mode);
  if (!allocated) {
    (void)ftruncate(fd, static_cast<off_t>(from));
  }
  return allocated;
}

io::Task<Result<void>> create_image_file(CreateParameters parameters) {
  co_return co_await io::WorkerPool::shared().run(
      [&parameters] { return create_file(parameters); });
}

io::Task<Result<void>> create_from_options(block::Graph& /*graph*/, std::string filename,
                                           const block::CreateOptions& options) {
  Result<CreateParameters> parameters = parse_options(std::move(filename), options);
  if (!parameters) {
    co_return pass(parameters);
  }
  co_return co_await create_image_file(std::move(*parameters));
}

}  // namespace cairn::file
