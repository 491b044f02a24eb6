#include "exports/fuse/notices.h"

#include <linux/fuse.h>
#include <unistd.h>

#include <cstdint>

namespace cairn::fuse {
namespace {

// Content from `offset` on; none when that is negative.
void notify(int descriptor, int64_t offset) {
  struct {
    fuse_out_header header{};
    fuse_notify_inval_inode_out body{};
  } notice;
  static_assert(sizeof notice == sizeof notice.header + sizeof notice.body);
  notice.header.len = sizeof notice;
  notice.header.error = FUSE_NOTIFY_INVAL_INODE;
  notice.body.ino = FUSE_ROOT_ID;
  notice.body.off = offset;
  notice.body.len = 0;  // to the end
  // It fails when the kernel does not know the file yet, or any more: it remembers nothing then.
  [[maybe_unused]] const ssize_t written = write(descriptor, &notice, sizeof notice);
}

}  // namespace

void forget_attributes(int descriptor) { notify(descriptor, -1); }

void forget_content(int descriptor) { notify(descriptor, 0); }

}  // namespace cairn::fuse
