// Byte-range locks on image files; see the header for the scheme.
#include "protocols/file/image_lock.h"

#include <fcntl.h>

#include <array>
#include <string_view>

#include "io/fd.h"

namespace cairn::file {

namespace {

using block::PermissionSet;

constexpr off_t kUsedBase = 100;
constexpr off_t kUnsharedBase = 200;

struct LockedPermission {
  PermissionSet::Bit bit;
  std::string_view name;
};

// In the order of their bytes.
constexpr std::array kPermissions = {
    LockedPermission{PermissionSet::kConsistentRead, "consistent read"},
    LockedPermission{PermissionSet::kWrite, "write"},
    LockedPermission{PermissionSet::kWriteUnchanged, "write unchanged"},
    LockedPermission{PermissionSet::kResize, "resize"},
};

struct flock lock_of(short type, off_t byte) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

Result<void> lock_byte(int fd, off_t byte) {
  struct flock lock = lock_of(F_RDLCK, byte);
  if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
    return fail(errno, "Failed to lock byte {}", byte);
  }
  return {};
}

void unlock_byte(int fd, off_t byte) {
  // Unlocking what is held can only fail for want of kernel memory; closing the file unlocks then.
  struct flock lock = lock_of(F_UNLCK, byte);
  (void)fcntl(fd, F_OFD_SETLK, &lock);
}

// Whether another open file description holds a lock on `byte`.
bool locked_elsewhere(int fd, off_t byte) {
  struct flock lock = lock_of(F_WRLCK, byte);
  return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

Result<void> lock_bytes(int fd, PermissionSet permissions, off_t base) {
  for (std::size_t i = 0; i < kPermissions.size(); ++i) {
    if (!permissions.has(kPermissions[i].bit)) {
      continue;
    }
    if (auto locked = lock_byte(fd, base + static_cast<off_t>(i)); !locked) {
      return locked;
    }
  }
  return {};
}

void unlock_bytes(int fd, PermissionSet permissions, off_t base) {
  for (std::size_t i = 0; i < kPermissions.size(); ++i) {
    if (permissions.has(kPermissions[i].bit)) {
      unlock_byte(fd, base + static_cast<off_t>(i));
    }
  }
}

// Fails when others hold one of the opposite bytes; `what` completes the message.
Result<void> check_bytes(int fd, PermissionSet permissions, off_t base, std::string_view what) {
  for (std::size_t i = 0; i < kPermissions.size(); ++i) {
    if (permissions.has(kPermissions[i].bit) &&
        locked_elsewhere(fd, base + static_cast<off_t>(i))) {
      return fail(EAGAIN, "Failed to get {}\"{}\" lock", what, kPermissions[i].name);
    }
  }
  return {};
}

}  // namespace

bool image_locks_supported() {
  static const bool kSupported = [] {
    const io::Fd fd(open("/dev/null", O_RDWR | O_CLOEXEC));
    struct flock lock = {};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    return fd.valid() && fcntl(fd.get(), F_OFD_GETLK, &lock) == 0;
  }();
  return kSupported;
}

bool locks_missing(int error) {
  return error == ENOLCK || error == EOPNOTSUPP || error == ENOSYS || error == EINVAL;
}

Result<void> ImageLock::share(int fd, LockSet wanted) {
  const LockSet before = held_;
  const PermissionSet new_used = wanted.used.without(held_.used);
  const PermissionSet new_unshared = wanted.unshared.without(held_.unshared);
  held_ = {held_.used | wanted.used, held_.unshared | wanted.unshared};
  auto result = lock_bytes(fd, new_used, kUsedBase);
  if (result) {
    result = lock_bytes(fd, new_unshared, kUnsharedBase);
  }
  if (!result) {
    keep(fd, before);
  }
  return result;
}

Result<void> ImageLock::take(int fd, LockSet wanted) {
  const LockSet before = held_;
  auto result = share(fd, wanted);
  if (result) {
    result = check_bytes(fd, wanted.used, kUnsharedBase, "");
  }
  if (result) {
    result = check_bytes(fd, wanted.unshared, kUsedBase, "shared ");
  }
  if (!result) {
    keep(fd, before);
  }
  return result;
}

void ImageLock::keep(int fd, LockSet kept) {
  unlock_bytes(fd, held_.used.without(kept.used), kUsedBase);
  unlock_bytes(fd, held_.unshared.without(kept.unshared), kUnsharedBase);
  held_ = {held_.used & kept.used, held_.unshared & kept.unshared};
}

}  // namespace cairn::file
