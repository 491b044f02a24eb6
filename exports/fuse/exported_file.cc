#include "exports/fuse/exported_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <utility>

#include "base/bytes.h"
#include "base/sector.h"
#include "block/graph.h"
#include "block/node_info.h"

namespace cairn::fuse {
namespace {

constexpr uint32_t kPermissionBits = 07777;
constexpr uint32_t kWriteBits = S_IWUSR | S_IWGRP | S_IWOTH;

std::unexpected<Error> failed_with(int code) { return std::unexpected(Error::from_errno(code)); }

}  // namespace

ExportedFile::ExportedFile(block::Edge& root, Settings settings)
    : root_(root),
      settings_(settings),
      mode_(S_IFREG | S_IRUSR | (settings.writable ? S_IWUSR : 0)),
      owner_(getuid()),
      group_(getgid()) {}

// The node has no times of its own: now.
fuse_attr ExportedFile::attributes() const {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const uint64_t length = root_.length();
  const int64_t allocated = block::allocated_size(root_.node());
  fuse_attr result{};
  result.ino = FUSE_ROOT_ID;
  result.size = length;
  result.blocks = (allocated > 0 ? static_cast<uint64_t>(allocated) : length) / kSector;
  result.atime = result.mtime = result.ctime = static_cast<uint64_t>(now.tv_sec);
  result.atimensec = result.mtimensec = result.ctimensec = static_cast<uint32_t>(now.tv_nsec);
  result.mode = mode_;
  result.nlink = 1;
  result.uid = owner_;
  result.gid = group_;
  result.blksize = root_.node().limits().request_alignment;
  return result;
}

io::Task<Result<void>> ExportedFile::set_attributes(fuse_setattr_in wanted) {
  constexpr uint32_t kPossible = FATTR_SIZE | FATTR_MODE | FATTR_UID | FATTR_GID | FATTR_FH |
                                 FATTR_LOCKOWNER | FATTR_KILL_SUIDGID;
  if ((wanted.valid & ~kPossible) != 0) {
    co_return failed_with(ENOTSUP);
  }
  if ((wanted.valid & (FATTR_MODE | FATTR_UID | FATTR_GID)) != 0 && !settings_.allow_other) {
    co_return failed_with(EPERM);
  }
  if ((wanted.valid & FATTR_MODE) != 0) {
    if (auto set = set_mode(wanted.mode); !set) {
      co_return set;
    }
  }
  owner_ = (wanted.valid & FATTR_UID) != 0 ? wanted.uid : owner_;
  group_ = (wanted.valid & FATTR_GID) != 0 ? wanted.gid : group_;
  if ((wanted.valid & FATTR_SIZE) == 0) {
    co_return Result<void>();
  }
  if (!settings_.writable) {
    co_return failed_with(EACCES);
  }
  const auto turn = co_await size_changes_.lock();
  co_return co_await resize(wanted.size, {.exact = true});
}

Result<void> ExportedFile::set_mode(uint32_t mode) {
  if (!settings_.writable && (mode & kWriteBits) != 0) {
    return failed_with(EROFS);
  }
  mode_ = S_IFREG | (mode & kPermissionBits);
  return {};
}

// The caller holds size_changes_. Whoever may write may truncate; the permission to resize is there
// for as long as that takes, unless it is there all the time.
io::Task<Result<void>> ExportedFile::resize(uint64_t length, block::ResizeOptions options) {
  const std::optional<uint64_t> rounded = checked_align_up(length, kSector);
  if (!rounded) {
    co_return failed_with(EFBIG);
  }
  const block::Permissions before = root_.permissions();
  block::Graph& graph = root_.node().graph();
  if (!settings_.growable) {
    block::Permissions more = before;
    more.used |= block::PermissionSet::kResize;
    if (auto allowed = graph.set_permissions(root_, more); !allowed) {
      co_return allowed;
    }
  }
  resizing_ = true;
  Result<void> result = co_await root_.resize(*rounded, options);
  resizing_ = false;
  if (!settings_.growable) {
    // Giving up a permission can not fail.
    const Result<void> back = graph.set_permissions(root_, before);
    static_cast<void>(back);
  }
  co_return result;
}

io::Task<Result<void>> ExportedFile::grow(uint64_t length, block::ResizeOptions options) {
  const auto turn = co_await size_changes_.lock();
  if (length <= root_.length()) {
    co_return Result<void>();
  }
  co_return co_await resize(length, options);
}

uint64_t ExportedFile::readable(uint64_t offset, uint64_t length) const {
  const uint64_t end = root_.length();
  return offset >= end ? 0 : std::min(length, end - offset);
}

io::Task<Result<uint64_t>> ExportedFile::read(uint64_t offset, io::IoVector data) {
  const uint64_t length = readable(offset, data.size());
  io::IoVector piece = length == data.size() ? std::move(data) : data.slice(0, length);
  Result<void> done = co_await root_.read(offset, std::move(piece));
  if (!done) {
    co_return pass(done);
  }
  co_return length;
}

io::Task<Result<uint64_t>> ExportedFile::write(uint64_t offset, io::IoVector data) {
  if (!settings_.writable) {
    co_return failed_with(EACCES);
  }
  if (settings_.growable && readable(offset, data.size()) < data.size()) {
    Result<void> grown = co_await grow(offset + data.size(), {.exact = true});
    if (!grown) {
      co_return pass(grown);
    }
  }
  const uint64_t length = readable(offset, data.size());
  io::IoVector piece = data.slice(0, length);
  const block::WriteFlags flags{.fua = settings_.writethrough};
  Result<void> written = co_await root_.write(offset, std::move(piece), flags);
  if (!written) {
    co_return pass(written);
  }
  co_return length;
}

io::Task<Result<void>> ExportedFile::flush() { return root_.flush(); }

io::Task<Result<void>> ExportedFile::allocate(uint64_t offset, uint64_t length, uint32_t mode) {
  if (!settings_.writable) {
    co_return failed_with(EACCES);
  }
  const uint64_t end = offset + length;
  const bool keeps_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  if (mode == 0) {
    // Space for what is a part of the disk already can not be asked for.
    if (offset < root_.length()) {
      co_return failed_with(ENOTSUP);
    }
    Result<void> grown = co_await grow(offset, {.exact = true});
    if (!grown) {
      co_return grown;
    }
    co_return co_await grow(end, {.preallocation = block::Preallocation::kFalloc, .exact = true});
  }
  if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)) {
    const uint64_t inside = readable(offset, length);
    co_return inside == 0 ? Result<void>()
                          : co_await root_.write_zeroes(offset, inside, {.may_unmap = true});
  }
  if ((mode & ~uint32_t{FALLOC_FL_KEEP_SIZE}) != FALLOC_FL_ZERO_RANGE) {
    co_return failed_with(ENOTSUP);
  }
  const uint64_t inside = readable(offset, length);
  if (!keeps_size) {
    Result<void> grown = co_await grow(end, {.exact = true});
    if (!grown) {
      co_return grown;
    }
  }
  co_return inside == 0 ? Result<void>() : co_await root_.write_zeroes(offset, inside);
}

io::Task<Result<uint64_t>> ExportedFile::seek(uint64_t offset, uint32_t whence) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) {
    co_return failed_with(EINVAL);
  }
  const bool wants_hole = whence == SEEK_HOLE;
  const uint64_t end = root_.length();
  if (offset >= end) {
    co_return failed_with(ENXIO);
  }
  while (offset < end) {
    const Result<block::ChainStatus> found = co_await root_.chain_status(offset, end - offset);
    if (!found) {
      co_return std::unexpected(found.error());
    }
    if (found->status.zero == wants_hole) {
      co_return offset;
    }
    offset += found->status.length;
  }
  if (wants_hole) {
    co_return end;  // there is always one behind the end
  }
  co_return failed_with(ENXIO);
}

}  // namespace cairn::fuse
