// Translation of raw nodes.
#include "formats/raw/raw_driver.h"

namespace cairn::raw {

// A raw node adds nothing of its own to its file: whoever uses it uses the file just so. Only below
// a window nobody else may move the end.
block::Permissions RawDriver::child_permissions(block::ChildRole /*role*/,
                                                block::Permissions parents,
                                                bool /*writable*/) const {
  if (window_.offset != 0 || window_.size) {
    parents.shared = parents.shared.without(block::PermissionSet::kResize);
  }
  return parents;
}

io::Task<Result<void>> RawDriver::resize(uint64_t length, block::ResizeOptions options) {
  const Result<uint64_t> file_length = window_.file_length_for(length);
  if (!file_length) {
    co_return std::unexpected(file_length.error());
  }
  co_return co_await file_.resize(*file_length, options);
}

bool RawDriver::try_map(uint64_t offset, uint64_t length, block::Extent& extent) {
  extent = block::Extent{.length = length,
                         .kind = block::Extent::Kind::kData,
                         .in_place = true,
                         .host_valid = true,
                         .child_status = block::Extent::ChildStatus::kAll,
                         .host_offset = offset + window_.offset,
                         .child = &file_};
  // A window that begins within a sector ends within one, too, behind the end of the file.
  const uint64_t end = file_.length();
  if (extent.host_offset >= end) [[unlikely]] {
    extent.kind = block::Extent::Kind::kZero;
    extent.child_status = block::Extent::ChildStatus::kNothing;
  } else if (extent.host_offset + length > end) [[unlikely]] {
    extent.length = end - extent.host_offset;
  }
  return true;
}

io::Task<Result<block::Extent>> RawDriver::map(uint64_t offset, uint64_t length) {
  block::Extent extent;
  (void)try_map(offset, length, extent);
  co_return extent;
}

io::Task<Result<void>> RawDriver::write_zeroes(uint64_t offset, uint64_t length,
                                               block::ZeroFlags flags) {
  // Whoever asked for FUA flushes this node, and with it the file, afterwards.
  flags.fua = false;
  return file_.write_zeroes(offset + window_.offset, length, flags);
}

io::Task<Result<void>> RawDriver::discard(uint64_t offset, uint64_t length) {
  return file_.discard(offset + window_.offset, length);
}

}  // namespace cairn::raw
