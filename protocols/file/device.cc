// Zeroes, discards and sizes of devices.
#include "protocols/file/device.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include <array>
#include <bit>
#include <cerrno>
#include <utility>

#include "io/worker_pool.h"

namespace cairn::file {

namespace {

bool device_lacks(const Error& error) {
  return error.code() == EOPNOTSUPP || error.code() == ENOSYS || error.code() == EINVAL ||
         error.code() == ENODEV || error.code() == ENOTTY;
}

}  // namespace

Device::Device(HostFileOptions options, std::unique_ptr<OpenFile> file, uint64_t length)
    : HostFile(std::move(options), std::move(file), length) {
  int sector = 0;
  if (ioctl(current().file.fd(), BLKSSZGET, &sector) == 0 && sector > 0 &&
      std::has_single_bit(static_cast<uint32_t>(sector))) {
    sector_size_ = static_cast<uint32_t>(sector);
  }
}

std::unique_ptr<HostFile> Device::create(HostFileOptions options, std::unique_ptr<OpenFile> file,
                                         uint64_t length) {
  return std::unique_ptr<HostFile>(new Device(std::move(options), std::move(file), length));
}

block::Limits Device::limits() const {
  block::Limits limits = HostFile::limits();
  limits.zero_alignment = sector_size_;
  limits.discard_alignment = sector_size_;
  return limits;
}

// fallocate() on a device, other than the older ioctls, keeps the page cache in step with it.
io::Task<Result<void>> Device::write_zeroes(uint64_t offset, uint64_t length,
                                            block::ZeroFlags flags) {
  const FileUse file(current());
  Result<void> result = fail(ENOTSUP, "No fast way to write zeroes to '{}'", path());
  if (flags.may_unmap && can_unmap_zeroes_) {
    constexpr uint32_t kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    result = co_await file->allocate(kPunch, offset, length);
    if (result || !device_lacks(result.error())) {
      co_return result;
    }
    can_unmap_zeroes_ = false;
  }
  // Where the device has no such command the kernel writes the zeroes out itself, which is quicker
  // than to hand them down from here, but is what `no_fallback` forbids.
  if (!flags.no_fallback && can_zero_) {
    constexpr uint32_t kZero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
    result = co_await file->allocate(kZero, offset, length);
    if (result || !device_lacks(result.error())) {
      co_return result;
    }
    can_zero_ = false;
  }
  co_return fail(ENOTSUP, "No fast way to write zeroes to '{}'", path());
}

io::Task<Result<void>> Device::give_back(uint64_t offset, uint64_t length) {
  if (!can_discard_) {
    co_return fail(ENOTSUP, "'{}' can not discard", path());
  }
  const FileUse file(current());
  auto call = [fd = file->fd(), offset, length] {
    std::array<uint64_t, 2> range = {offset, length};
    return ioctl(fd, BLKDISCARD, range.data()) == 0 ? 0 : errno;
  };
  auto work = io::WorkerPool::shared().run(call);
  const int error = co_await work;
  if (error == 0) {
    co_return Result<void>{};
  }
  const Error reason = Error::from_errno(error);
  if (device_lacks(reason)) {
    can_discard_ = false;
    co_return fail(ENOTSUP, "'{}' can not discard", path());
  }
  co_return std::unexpected(io_error(reason, "discard part of", offset));
}

io::Task<Result<void>> Device::resize(uint64_t length, block::ResizeOptions options) {
  if (options.preallocation != block::Preallocation::kOff) {
    constexpr std::array<std::string_view, 4> kNames = {"off", "metadata", "falloc", "full"};
    co_return fail(ENOTSUP, "Preallocation mode '{}' unsupported for this non-regular file",
                   kNames.at(static_cast<std::size_t>(options.preallocation)));
  }
  const Result<uint64_t> now = current().file.size();
  if (!now) {
    co_return std::unexpected(now.error());
  }
  if (length > *now && !options.exact) {
    co_return fail(EINVAL, "Cannot grow device files");
  }
  if (length != *now && options.exact) {
    co_return fail(ENOTSUP, "Cannot resize device files");
  }
  set_length(*now);
  co_return Result<void>{};
}

}  // namespace cairn::file
