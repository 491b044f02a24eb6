#include "filters/blklogwrites/log.h"

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "io/buffer.h"

namespace cairn::filters::blklogwrites {

namespace {

constexpr uint64_t kHeaderBytes = 32;

template <typename T>
void store_le(std::byte* p, T value) {
  for (std::size_t i = 0; i < sizeof value; ++i) {
    p[i] = static_cast<std::byte>(value >> (8 * i));
  }
}

uint64_t load_le(const std::byte* p, std::size_t bytes = sizeof(uint64_t)) {
  uint64_t value = 0;
  for (std::size_t i = 0; i < bytes; ++i) {
    value |= static_cast<uint64_t>(p[i]) << (8 * i);
  }
  return value;
}

}  // namespace

io::Task<Result<void>> WriteLog::open_existing() {
  if (file_.length() == 0) {
    co_return Result<void>{};
  }
  std::array<std::byte, kHeaderBytes> head{};
  Result<void> read = co_await file_.read(0, head.data(), head.size());
  if (!read) {
    co_return fail_errno(read.error().code(), "Could not read log superblock");
  }
  if (load_le(head.data()) != kMagic) {
    co_return fail(EINVAL, "Invalid log superblock magic");
  }
  if (load_le(head.data() + 8) != kVersion) {
    co_return fail(EINVAL, "Unsupported log version {}", load_le(head.data() + 8));
  }
  const uint64_t sector = load_le(head.data() + 24, sizeof(uint32_t));
  if (!std::has_single_bit(sector) || sector < kHeaderBytes || sector > kLargestSector) {
    co_return fail(EINVAL, "Invalid log sector size {}", sector);
  }
  sector_ = static_cast<uint32_t>(sector);
  co_return co_await find_end(load_le(head.data() + 16));
}

io::Task<Result<void>> WriteLog::find_end(uint64_t entries) {
  std::array<std::byte, kHeaderBytes> head{};
  for (; entries_ < entries; ++entries_) {
    Result<void> read = co_await file_.read(end_ * sector_, head.data(), head.size());
    if (!read) {
      co_return fail_errno(read.error().code(), "Could not read log entry {}", entries_);
    }
    const uint64_t flags = load_le(head.data() + 16);
    const uint64_t sectors = (flags & kDiscard) != 0 ? 0 : load_le(head.data() + 8);
    if (sectors > file_.length() / sector_ || (end_ + 1 + sectors) * sector_ > file_.length()) {
      co_return fail(EINVAL, "Log entry {} goes beyond the end of the log", entries_);
    }
    end_ += 1 + sectors;
  }
  co_return Result<void>{};
}

io::Task<Result<void>> WriteLog::append(uint64_t offset, uint64_t length, uint64_t flags,
                                        io::IoVector data) {
  auto head = io::AlignedBuffer::allocate(sector_);
  if (!head) {
    co_return pass(head);
  }
  std::memset(head->data(), 0, sector_);
  store_le(head->data(), offset / sector_);
  store_le(head->data() + 8, length / sector_);
  store_le(head->data() + 16, flags);
  io::IoVector entry(head->data(), sector_);
  entry.append(data);
  const auto turn = co_await mutex_.lock();
  const uint64_t bytes = entry.size();
  Result<void> result = co_await file_.write(end_ * sector_, std::move(entry));
  if (!result) {
    co_return result;
  }
  end_ += bytes / sector_;
  ++entries_;
  if (entries_ % interval_ == 0) {
    result = co_await write_super();
  }
  co_return result;
}

// The caller has the turn.
io::Task<Result<void>> WriteLog::write_super() {
  auto super = io::AlignedBuffer::allocate(sector_);
  if (!super) {
    co_return pass(super);
  }
  std::memset(super->data(), 0, sector_);
  store_le(super->data(), kMagic);
  store_le(super->data() + 8, kVersion);
  store_le(super->data() + 16, entries_);
  store_le(super->data() + 24, sector_);
  io::IoVector whole(super->data(), sector_);
  co_return co_await file_.write(0, std::move(whole));
}

io::Task<Result<void>> WriteLog::flush() {
  const auto turn = co_await mutex_.lock();
  Result<void> result = co_await write_super();
  if (result) {
    result = co_await file_.flush();
  }
  co_return result;
}

}  // namespace cairn::filters::blklogwrites
