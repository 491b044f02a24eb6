// Raw images that were probed: everything goes to the file but headers of other formats.
#include "formats/raw/probed_raw_driver.h"

#include <array>
#include <cerrno>
#include <span>

#include "base/sector.h"

namespace cairn::raw {

block::Limits ProbedRawDriver::limits() const {
  block::Limits limits;
  limits.request_alignment = kSector;
  limits.native_fua = true;  // the request to the file below carries it
  return limits;
}

block::Permissions ProbedRawDriver::child_permissions(block::ChildRole /*role*/,
                                                      block::Permissions parents,
                                                      bool /*writable*/) const {
  return parents;
}

io::Task<Result<void>> ProbedRawDriver::resize(uint64_t length, block::ResizeOptions options) {
  const Result<uint64_t> file_length = window_.file_length_for(length);
  if (!file_length) {
    co_return std::unexpected(file_length.error());
  }
  co_return co_await file_.resize(*file_length, options);
}

io::Task<Result<void>> ProbedRawDriver::read(uint64_t offset, io::IoVector data) {
  return file_.read(offset + window_.offset, std::move(data));
}

io::Task<Result<void>> ProbedRawDriver::write(uint64_t offset, io::IoVector data,
                                              block::WriteFlags flags) {
  if (offset < kSector) {
    std::array<std::byte, kSector> sector{};
    data.copy_to(0, sector);
    const block::DriverInfo* format = drivers_.probe(sector, node_->filename());
    if (format != nullptr && format != &node_->info()) {
      co_return fail(EPERM,
                     "A write to block 0 of '{}' would make it look like a {} image; specify the "
                     "'raw' format explicitly to allow it",
                     node_->name(), format->name);
    }
  }
  co_return co_await file_.write(offset + window_.offset, std::move(data), flags);
}

io::Task<Result<void>> ProbedRawDriver::write_zeroes(uint64_t offset, uint64_t length,
                                                     block::ZeroFlags flags) {
  return file_.write_zeroes(offset + window_.offset, length, flags);
}

io::Task<Result<void>> ProbedRawDriver::discard(uint64_t offset, uint64_t length) {
  return file_.discard(offset + window_.offset, length);
}

io::Task<Result<block::BlockStatus>> ProbedRawDriver::status(uint64_t offset, uint64_t length) {
  return file_.status(offset + window_.offset, length);
}

}  // namespace cairn::raw
