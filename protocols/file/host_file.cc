// What regular files and devices have in common: opening, locking, reading, writing, flushing.
#include "protocols/file/host_file.h"

#include <sys/stat.h>
#include <sys/uio.h>

#include <cerrno>
#include <string_view>
#include <variant>

#include "block/node.h"
#include "protocols/file/device.h"
#include "protocols/file/regular_file.h"
#include "schema/types_block_info.h"
#include "schema/types_block_options.h"
#include "schema/types_block_stats.h"

namespace cairn::file {

using block::PermissionSet;

namespace {

Result<void> check_kind(const HostFileOptions& options, int fd) {
  struct stat status = {};
  if (fstat(fd, &status) != 0) {
    return fail_errno(errno, "Could not stat '{}'", options.path);
  }
  if (options.device && !S_ISBLK(status.st_mode) && !S_ISCHR(status.st_mode)) {
    return fail(EINVAL,
                "'host_device' driver requires '{}' to be either a character or block device",
                options.path);
  }
  if (!options.device && !S_ISREG(status.st_mode)) {
    return fail(EINVAL, "'file' driver requires '{}' to be a regular file", options.path);
  }
  return {};
}

}  // namespace

HostFile::HostFile(HostFileOptions options, std::unique_ptr<OpenFile> file, uint64_t length)
    : options_(std::move(options)), file_(std::move(file)), length_(length) {
  if (options_.direct) {
    alignment_ = probe_direct_alignment(file_->file.fd());
  }
}

Result<std::unique_ptr<HostFile>> HostFile::open(HostFileOptions options) {
  const bool write_now = options.writable && !options.open_on_demand;
  auto file = io::File::open_now(options.path, {.writable = write_now, .direct = options.direct});
  if (!file && options.direct && file.error().code() == EINVAL) {
    return fail(EINVAL, "Could not open '{}': filesystem does not support O_DIRECT", options.path);
  }
  if (!file) {
    return pass(file);
  }
  if (auto kind = check_kind(options, file->fd()); !kind) {
    return pass(kind);
  }
  const Result<uint64_t> length = file->size();
  if (!length) {
    return fail_errno(length.error().code(), "Could not refresh total sector count");
  }
  auto open_file = std::make_unique<OpenFile>(std::move(*file), write_now, options.direct);
  if (options.device) {
    return Device::create(std::move(options), std::move(open_file), *length);
  }
  return RegularFile::create(std::move(options), std::move(open_file), *length);
}

block::Limits HostFile::limits() const {
  block::Limits limits;
  limits.request_alignment = alignment_.request;
  limits.memory_alignment = alignment_.memory;
  limits.native_fua = true;
  return limits;
}

int64_t HostFile::allocated_size() const {
  struct stat status = {};
  if (fstat(file_->file.fd(), &status) != 0) {
    return -1;
  }
  return static_cast<int64_t>(status.st_blocks) * 512;
}

io::Task<Result<std::unique_ptr<schema::ImageInfoSpecific>>> HostFile::specific_info() {
  auto info = std::make_unique<schema::ImageInfoSpecific>();
  info->type = schema::ImageInfoSpecificKind::kFile;
  info->branch = schema::ImageInfoSpecificFileWrapper{};
  co_return info;
}

std::unique_ptr<schema::BlockStatsSpecific> HostFile::specific_statistics() const {
  schema::BlockStatsSpecificFile counters;
  counters.discard_nb_ok = discards_.succeeded;
  counters.discard_nb_failed = discards_.failed;
  counters.discard_bytes_ok = discards_.bytes;
  auto statistics = std::make_unique<schema::BlockStatsSpecific>();
  statistics->driver =
      options_.device ? schema::BlockdevDriver::kHostDevice : schema::BlockdevDriver::kFile;
  statistics->branch = counters;
  return statistics;
}

io::Task<Result<void>> HostFile::discard(uint64_t offset, uint64_t length) {
  Result<void> given_back = co_await give_back(offset, length);
  if (given_back) {
    ++discards_.succeeded;
    discards_.bytes += length;
  } else {
    ++discards_.failed;
  }
  co_return given_back;
}

Result<void> HostFile::lock(LockSet wanted) {
  if (options_.locking == Locking::kOff) {
    return {};
  }
  if (!image_locks_supported()) {
    if (options_.locking == Locking::kOn) {
      return fail(ENOTSUP, "The kernel has no locks for '{}', and locking=on asks for them",
                  path());
    }
    return {};
  }
  auto locked = file_->lock.take(file_->file.fd(), wanted);
  if (locked) {
    return {};
  }
  if (locks_missing(locked.error().code()) && options_.locking == Locking::kAuto) {
    options_.locking = Locking::kOff;
    return {};
  }
  return std::unexpected(
      std::move(locked.error()).with_hint("Is another process using the image [" + path() + "]?"));
}

// By way of /proc the very same file is opened, even when its name or the working directory has
// changed meanwhile.
Result<std::unique_ptr<OpenFile>> HostFile::reopen(bool writable, LockSet locks) {
  const std::string link = fmt::format("/proc/self/fd/{}", file_->file.fd());
  auto file = io::File::open_now(link, {.writable = writable, .direct = options_.direct});
  if (!file) {
    return fail_errno(file.error().code(), "Could not open '{}'", path());
  }
  auto replacement = std::make_unique<OpenFile>(std::move(*file), writable, options_.direct);
  if (options_.locking != Locking::kOff && image_locks_supported()) {
    if (auto locked = replacement->lock.share(replacement->file.fd(), locks); !locked) {
      return pass(locked);
    }
  }
  return replacement;
}

Result<bool> HostFile::adopt_options(const block::NodeOptions& node,
                                     const schema::BlockdevOptions& options) {
  const auto& file = std::get<schema::BlockdevOptionsFile>(options.branch);
  if (auto possible = check_aio(file, node.cache_direct); !possible) {
    return pass(possible);
  }
  options_.writable = !node.read_only;
  options_.open_on_demand = node.auto_read_only;
  options_.direct = node.cache_direct;
  return true;
}

Result<void> HostFile::refresh() {
  const Result<uint64_t> length = file_->file.size();
  if (!length) {
    return fail_errno(length.error().code(), "Could not refresh total sector count");
  }
  length_ = *length;
  segments_ = {};
  return {};
}

Result<void> check_aio(const schema::BlockdevOptionsFile& options, bool direct) {
  // Which interface carries the requests is the reactor's choice; the option is only checked.
  if (options.aio == schema::BlockdevAioOptions::kNative && !direct) {
    return fail(EINVAL,
                "aio=native was specified, but it requires cache.direct=on, which was not "
                "specified.");
  }
  return {};
}

Result<void> HostFile::prepare_permissions(block::Permissions permissions) {
  LockSet wanted = LockSet::of(permissions);
  if (options_.force_share) {
    wanted.unshared = PermissionSet::none();
  }
  const bool writes = !(permissions.used & (PermissionSet::kWrite | PermissionSet::kWriteUnchanged |
                                            PermissionSet::kResize))
                           .empty();
  const bool writable = options_.writable && (writes || !options_.open_on_demand);
  PermissionChange change{file_->lock.held(), wanted, nullptr};
  // The old descriptor tells conflicts, since it does not see its own locks; then the new one, if
  // any, gets the same locks before the old one gives them up.
  if (auto locked = lock(wanted); !locked) {
    return locked;
  }
  if (writable != file_->writable || options_.direct != file_->direct) {
    auto replacement = reopen(writable, wanted);
    if (!replacement) {
      file_->lock.keep(file_->file.fd(), change.before);
      return pass(replacement);
    }
    change.replacement = std::move(*replacement);
  }
  change_ = std::move(change);
  return {};
}

void HostFile::commit_permissions() {
  if (!change_) {
    return;
  }
  if (change_->replacement) {
    file_->lock.keep(file_->file.fd(), {});
    file::retire(std::exchange(file_, std::move(change_->replacement)));
    alignment_ = options_.direct ? probe_direct_alignment(file_->file.fd()) : DirectAlignment{};
  } else {
    file_->lock.keep(file_->file.fd(), change_->wanted);
  }
  change_.reset();
}

void HostFile::abort_permissions() {
  if (change_) {
    file_->lock.keep(file_->file.fd(), change_->before);
    change_.reset();
  }
}

Error HostFile::io_error(const Error& error, std::string_view what, uint64_t offset) const {
  return Error::from_errno(error.code(),
                           fmt::format("Could not {} '{}' at {}", what, path(), offset));
}

io::Task<Result<void>> HostFile::read(uint64_t offset, io::IoVector data) {
  const FileUse file(*file_);
  const Result<uint64_t> count = co_await file->read_at(data, offset);
  if (!count) {
    co_return std::unexpected(io_error(count.error(), "read", offset));
  }
  // The end of the file: what is missing of its last sector reads as zeroes, and so does all of it
  // when another program has made the file shorter.
  if (*count < data.size()) {
    data.fill(std::byte{0}, *count, data.size() - *count);
  }
  co_return Result<void>{};
}

io::Task<Result<void>> HostFile::write(uint64_t offset, io::IoVector data,
                                       block::WriteFlags flags) {
  const FileUse file(*file_);
  const uint64_t length = data.size();
  segments_.write_begins(offset, length);
  const Result<void> written =
      co_await file->write_at(std::move(data), offset, flags.fua ? RWF_DSYNC : 0);
  segments_.write_ends();
  if (!written) {
    co_return std::unexpected(io_error(written.error(), "write to", offset));
  }
  grow_to(offset + length);
  co_return Result<void>{};
}

io::Task<Result<void>> HostFile::flush() {
  if (flush_error_ == 0) {
    const FileUse file(*file_);
    const Result<void> flushed = co_await file->sync_data();
    if (flushed && flush_error_ == 0) {
      co_return Result<void>{};
    }
    if (!flushed && flush_error_ == 0) {
      flush_error_ = flushed.error().code();
    }
  }
  co_return fail_errno(flush_error_, "Could not flush '{}'", path());
}

io::Task<Result<void>> HostFile::close() {
  // A child process may have inherited the descriptor, so that closing it would not unlock.
  file_->lock.keep(file_->file.fd(), {});
  co_return Result<void>{};
}

}  // namespace cairn::file
