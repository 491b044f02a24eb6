#include "exports/vhost_user/mapped_file.h"

#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#include "base/bytes.h"

namespace cairn::vhost_user {
namespace {

// The unit in which this file can be mapped.
Result<uint64_t> page_size_of(int fd) {
  struct statfs where{};
  if (fstatfs(fd, &where) != 0) {
    return fail_errno(errno, "memory that was passed can not be looked at");
  }
  if (where.f_type == FUSE_SUPER_MAGIC) {
    return fail(EINVAL, "memory that was passed is a file of FUSE");
  }
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return where.f_type == HUGETLBFS_MAGIC ? static_cast<uint64_t>(where.f_bsize) : page;
}

}  // namespace

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      base_(std::exchange(other.base_, nullptr)),
      mapped_(std::exchange(other.mapped_, 0)),
      guard_(std::move(other.guard_)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this != &other) {
    unmap();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    base_ = std::exchange(other.base_, nullptr);
    mapped_ = std::exchange(other.mapped_, 0);
    guard_ = std::move(other.guard_);
  }
  return *this;
}

Result<MappedFile> MappedFile::map(int fd, uint64_t offset, uint64_t length) {
  struct stat status{};
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    return fail(EINVAL, "memory that was passed is no file");
  }
  const auto end = checked_add(offset, length);
  if (length == 0 || !end || *end > static_cast<uint64_t>(status.st_size)) {
    return fail(EINVAL, "memory from {:#x} on with {:#x} bytes does not lie in a file of {:#x}",
                offset, length, status.st_size);
  }
  const auto page = page_size_of(fd);
  if (!page) {
    return std::unexpected(page.error());
  }
  const uint64_t begin = align_down(offset, *page);
  const auto whole = checked_align_up(*end - begin, *page);
  if (!whole) {
    return fail(EINVAL, "memory of {:#x} bytes is too much", length);
  }
  void* const base = mmap(nullptr, *whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                          static_cast<off_t>(begin));
  if (base == MAP_FAILED) {
    return fail_errno(errno, "memory of {:#x} bytes can not be mapped", length);
  }
  MappedFile result;
  result.base_ = base;
  result.mapped_ = *whole;
  result.data_ = static_cast<std::byte*>(base) + (offset - begin);
  result.size_ = length;
  // What a guest has in memory belongs into no core dump of ours.
  madvise(base, *whole, MADV_DONTDUMP);
  auto guard = FaultGuard::watch(base, *whole);
  if (!guard) {
    return pass(guard);
  }
  result.guard_ = std::move(*guard);
  return result;
}

void MappedFile::unmap() {
  if (base_ != nullptr) {
    guard_ = FaultGuard();
    munmap(base_, mapped_);
  }
  base_ = nullptr;
  data_ = nullptr;
  size_ = 0;
}

}  // namespace cairn::vhost_user
