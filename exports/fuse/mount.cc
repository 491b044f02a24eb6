#include "exports/fuse/mount.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "exports/fuse/libfuse.h"
#include "exports/fuse/limits.h"

namespace cairn::fuse {
namespace {

// What libfuse has said last: its functions return nothing but failure.
std::string& last_complaint() {
  static std::string text;
  return text;
}

void keep_complaint(fuse_log_level /*level*/, const char* format, va_list arguments) {
  std::array<char, 512> text{};
  const int length = std::vsnprintf(text.data(), text.size(), format, arguments);
  if (length > 0) {
    last_complaint() = text.data();
    while (last_complaint().ends_with('\n')) {
      last_complaint().pop_back();
    }
  }
}

// Null: libfuse has complained.
fuse_session* mount_with(const LibFuse& library, const std::string& path, bool allow_other) {
  // The kernel cuts reads at what INIT agrees on; the option has to be no smaller.
  std::string options = fmt::format("fsname=cairn,default_permissions,max_read={}", kLargestRead);
  if (allow_other) {
    options += ",allow_other";
  }
  std::string program = "cairnd";
  std::string flag = "-o";
  std::array<char*, 3> words = {program.data(), flag.data(), options.data()};
  fuse_args arguments = FUSE_ARGS_INIT(static_cast<int>(words.size()), words.data());
  const fuse_lowlevel_ops operations{};
  fuse_session* session = library.session_new(&arguments, &operations, sizeof operations, nullptr);
  library.opt_free_args(&arguments);
  if (session == nullptr) {
    return nullptr;
  }
  if (library.session_mount(session, path.c_str()) != 0) {
    library.session_destroy(session);
    return nullptr;
  }
  return session;
}

}  // namespace

Result<PathStatus> look_at(const std::string& path) {
  struct statx status{};
  if (statx(AT_FDCWD, path.c_str(), AT_STATX_DONT_SYNC, STATX_TYPE, &status) != 0) {
    const int error = errno;
    return fail(error, "Failed to stat '{}': {}", path, std::strerror(error));
  }
  return PathStatus{.device = makedev(status.stx_dev_major, status.stx_dev_minor),
                    .regular = S_ISREG(status.stx_mode)};
}

Result<std::unique_ptr<Mount>> Mount::create(const std::string& path, AllowOther allow_other) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0) {
    const int error = errno;
    // The second while the kernel still has requests for the server.
    if (error == ENOTCONN || error == ECONNABORTED) {
      return fail(error,
                  "'{0}' is what a FUSE server that is gone has left mounted; 'fusermount3 -u {0}' "
                  "takes it away",
                  path);
    }
    return fail(error, "Failed to stat '{}': {}", path, std::strerror(error));
  }
  if (!S_ISREG(status.st_mode)) {
    return fail(EINVAL, "'{}' is not a regular file", path);
  }
  const Result<const LibFuse*> loaded = libfuse();
  if (!loaded) {
    return std::unexpected(loaded.error());
  }
  const LibFuse& library = **loaded;
  library.set_log_func(keep_complaint);
  last_complaint().clear();
  bool others = allow_other != AllowOther::kOff;
  fuse_session* session = mount_with(library, path, others);
  if (session == nullptr && allow_other == AllowOther::kAuto) {
    others = false;
    session = mount_with(library, path, others);
  }
  if (session == nullptr) {
    return fail(EIO, "Failed to mount FUSE session to export '{}': {}", path, last_complaint());
  }
  const int descriptor = library.session_fd(session);
  const int flags = fcntl(descriptor, F_GETFL);
  fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
  fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  const Result<PathStatus> mounted = look_at(path);
  return std::unique_ptr<Mount>(
      new Mount(library, session, others, mounted ? mounted->device : dev_t{0}));
}

Mount::~Mount() {
  library_.session_unmount(session_);
  library_.session_destroy(session_);
}

int Mount::descriptor() const { return library_.session_fd(session_); }

}  // namespace cairn::fuse
