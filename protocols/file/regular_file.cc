// Zeroes, holes and sizes of regular files.
#include "protocols/file/regular_file.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "io/buffer.h"
#include "io/worker_pool.h"
#include "protocols/file/create.h"

namespace cairn::file {

namespace {

// EINVAL is what some file systems say of ranges that they can not handle.
bool not_possible(const Error& error) {
  return error.code() == EOPNOTSUPP || error.code() == ENOSYS || error.code() == EINVAL ||
         error.code() == ENODEV;
}

std::unexpected<Error> no_fast_zeroes() { return fail(ENOTSUP, "No fast way to write zeroes"); }

}  // namespace

std::unique_ptr<HostFile> RegularFile::create(HostFileOptions options,
                                              std::unique_ptr<OpenFile> file, uint64_t length) {
  return std::unique_ptr<HostFile>(new RegularFile(std::move(options), std::move(file), length));
}

// Zeroes with space behind them: later writes can not run out of it.
io::Task<Result<void>> RegularFile::zero_and_allocate(const io::File& file, uint64_t offset,
                                                      uint64_t length) {
  if (can_zero_range_) {
    Result<void> zeroed = co_await file.allocate(FALLOC_FL_ZERO_RANGE, offset, length);
    if (zeroed || !not_possible(zeroed.error())) {
      co_return zeroed;
    }
    can_zero_range_ = false;
  }
  if (!can_punch_) {
    co_return no_fast_zeroes();
  }
  // A hole reads as zeroes at any time in between, too.
  constexpr uint32_t kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  Result<void> zeroed = co_await file.allocate(kPunch, offset, length);
  if (zeroed) {
    zeroed = co_await file.allocate(0, offset, length);
  }
  if (!zeroed && not_possible(zeroed.error())) {
    co_return no_fast_zeroes();
  }
  co_return zeroed;
}

io::Task<Result<void>> RegularFile::zero_and_unmap(const io::File& file, uint64_t offset,
                                                   uint64_t length) {
  if (!can_punch_) {
    co_return co_await zero_and_allocate(file, offset, length);
  }
  constexpr uint32_t kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  Result<void> punched = co_await file.allocate(kPunch, offset, length);
  if (!punched && not_possible(punched.error())) {
    can_punch_ = false;
    co_return co_await zero_and_allocate(file, offset, length);
  }
  if (punched && offset + length > this->length()) {
    punched = co_await extend_to(file, offset + length);
  }
  co_return punched;
}

// Makes the file at least `end` bytes long by writing the last zeroes of a range out. A truncation
// could cut off what a concurrent write has just added.
io::Task<Result<void>> RegularFile::extend_to(const io::File& file, uint64_t end) {
  const uint64_t begin = align_down(end - 1, limits().request_alignment);
  auto zeroes = io::AlignedBuffer::allocate_zeroed(end - begin);
  if (!zeroes) {
    co_return pass(zeroes);
  }
  io::IoVector vector(zeroes->data(), end - begin);
  co_return co_await file.write_at(std::move(vector), begin);
}

io::Task<Result<void>> RegularFile::write_zeroes(uint64_t offset, uint64_t length,
                                                 block::ZeroFlags flags) {
  const FileUse file(current());
  segments().write_begins(offset, length);
  Result<void> result;
  if (flags.may_unmap) {
    result = co_await zero_and_unmap(*file, offset, length);
  } else {
    result = co_await zero_and_allocate(*file, offset, length);
  }
  segments().write_ends();
  segments().forget(offset, length);
  if (result) {
    grow_to(offset + length);
  } else if (result.error().code() != ENOTSUP) {
    co_return std::unexpected(io_error(result.error(), "write zeroes to", offset));
  }
  co_return result;
}

io::Task<Result<void>> RegularFile::give_back(uint64_t offset, uint64_t length) {
  if (!can_punch_) {
    co_return fail(ENOTSUP, "No holes in '{}'", path());
  }
  const FileUse file(current());
  segments().write_begins(offset, length);
  constexpr uint32_t kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  Result<void> punched = co_await file->allocate(kPunch, offset, length);
  segments().write_ends();
  segments().forget(offset, length);
  if (!punched && not_possible(punched.error())) {
    can_punch_ = false;
    co_return fail(ENOTSUP, "No holes in '{}'", path());
  }
  if (!punched) {
    co_return std::unexpected(io_error(punched.error(), "discard part of", offset));
  }
  co_return punched;
}

io::Task<Result<void>> RegularFile::resize(uint64_t length, block::ResizeOptions options) {
  const FileUse file(current());
  segments().forget(0, UINT64_MAX);
  auto change = [fd = file->fd(), from = this->length(), to = length,
                 mode = options.preallocation] { return change_file_length(fd, from, to, mode); };
  auto work = io::WorkerPool::shared().run(change);
  Result<void> result = co_await work;
  if (result) {
    set_length(length);
  }
  co_return result;
}

// The data or hole at `offset`, as the file system tells; data up to the end when it can not.
Segment RegularFile::find_segment(uint64_t offset) {
  const int fd = current().file.fd();
  const auto at = static_cast<off_t>(offset);
  const off_t data = lseek(fd, at, SEEK_DATA);
  if (data < 0) {
    if (errno == ENXIO) {  // a hole up to the end of the file, wherever that is now
      return {offset, std::max(length(), offset + 1), false};
    }
    can_seek_ = false;
    return {offset, UINT64_MAX, true};
  }
  if (data > at) {
    return {offset, static_cast<uint64_t>(data), false};
  }
  const off_t hole = lseek(fd, at, SEEK_HOLE);
  // At or before `offset`: the file has changed between the two calls.
  return {offset, hole > at ? static_cast<uint64_t>(hole) : offset + 1, true};
}

io::Task<Result<block::BlockStatus>> RegularFile::status(uint64_t offset, uint64_t length) {
  block::BlockStatus status{
      .length = length, .data = true, .allocated = true, .host = node_, .host_offset = offset};
  if (offset >= this->length()) {  // in the last sector, behind the end
    status.data = false;
    status.zero = true;
    co_return status;
  }
  if (!can_seek_) {
    co_return status;
  }
  auto segment = segments().find(offset);
  if (!segment) {
    segment = find_segment(offset);
    segments().learn(*segment, exclusive());
  }
  status.data = segment->data;
  status.zero = !segment->data;
  // The rest of the last sector is as the last byte: data, or as zero as a hole.
  const uint64_t end =
      segment->end >= this->length() ? offset + length : std::min(segment->end, offset + length);
  status.length = end - offset;
  co_return status;
}

}  // namespace cairn::file
