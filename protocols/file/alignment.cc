// Finding out the alignment of direct I/O.
#include "protocols/file/alignment.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>

#include "io/buffer.h"

namespace cairn::file {

namespace {

constexpr uint32_t kSafe = 4096;

bool sensible(uint32_t alignment) {
  return std::has_single_bit(alignment) && alignment <= 64 * 1024;
}

// False when the kernel or the file system does not tell.
bool ask_kernel(int fd, DirectAlignment& alignment) {
#ifdef STATX_DIOALIGN
  struct statx status = {};
  if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
      (status.stx_mask & STATX_DIOALIGN) != 0 && sensible(status.stx_dio_offset_align) &&
      sensible(status.stx_dio_mem_align)) {
    alignment = {status.stx_dio_offset_align, status.stx_dio_mem_align};
    return true;
  }
#endif
  int sector = 0;
  if (ioctl(fd, BLKSSZGET, &sector) == 0 && sector > 0 && sensible(static_cast<uint32_t>(sector))) {
    alignment = {static_cast<uint32_t>(sector), static_cast<uint32_t>(sector)};
    return true;
  }
  return false;
}

// Whether a read of `length` bytes into `memory` is accepted.
bool accepts(int fd, std::byte* memory, uint32_t length) {
  return pread(fd, memory, length, 0) >= 0 || errno != EINVAL;
}

}  // namespace

DirectAlignment probe_direct_alignment(int fd) {
  DirectAlignment alignment{kSafe, kSafe};
  if (ask_kernel(fd, alignment)) {
    return alignment;
  }
  // A read at the end of a file tells nothing on some file systems.
  struct stat status = {};
  auto buffer = io::AlignedBuffer::allocate(uint64_t{2} * kSafe, kSafe);
  if (!buffer || fstat(fd, &status) != 0 || status.st_size < kSafe) {
    return alignment;
  }
  for (uint32_t length = 1; length < kSafe; length = length == 1 ? 512 : length * 2) {
    if (accepts(fd, buffer->data(), length)) {
      alignment.request = length;
      break;
    }
  }
  for (uint32_t address = 1; address < kSafe; address = address == 1 ? 512 : address * 2) {
    if (accepts(fd, buffer->data() + address, kSafe)) {
      alignment.memory = address;
      break;
    }
  }
  return alignment;
}

}  // namespace cairn::file
