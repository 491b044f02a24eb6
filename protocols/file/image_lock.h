// ImageLock: locks on an image file that keep programs from harming each other's images.
//
// The locks are those of QEMU, so that its programs and ours respect one another. They are shared
// byte-range locks of the open file description (F_OFD_SETLK), one byte a permission: byte 100 + n
// says "permission n is in use here", byte 200 + n says "permission n must not be used by others".
// A holder first takes its bytes, which never fails among well-behaved programs, and then looks for
// the opposite bytes of others; two that come at the same time both see each other, and at worst
// both give up. Permissions number from 0: consistent read, write, write unchanged, resize.
//
// Invariant: the kernel's locks of the descriptor that the members were given
// are exactly those that held() tells.
#pragma once

#include "base/result.h"
#include "block/permissions.h"

namespace cairn::file {

struct LockSet {
  block::PermissionSet used;      // bytes 100 + n
  block::PermissionSet unshared;  // bytes 200 + n

  [[nodiscard]] static LockSet of(block::Permissions permissions) {
    return {permissions.used, block::PermissionSet::all().without(permissions.shared)};
  }
  bool operator==(const LockSet&) const = default;
};

// False when the kernel has no locks of open file descriptions.
[[nodiscard]] bool image_locks_supported();

class ImageLock {
 public:
  [[nodiscard]] LockSet held() const { return held_; }

  // Adds `wanted` to what is held on `fd` and makes sure that nobody else objects. On failure what
  // was held before is held still. EAGAIN when another program is in the way; other errors are
  // the file system's, which may have no locks (see locks_missing()).
  [[nodiscard]] Result<void> take(int fd, LockSet wanted);

  // Adds `wanted` without looking at others: for a second descriptor of a file whose first one has
  // taken the same.
  [[nodiscard]] Result<void> share(int fd, LockSet wanted);

  // Gives up what is not in `kept`.
  void keep(int fd, LockSet kept);

 private:
  LockSet held_;
};

// The errno of a file system that does not do locks at all.
[[nodiscard]] bool locks_missing(int error);

}  // namespace cairn::file
