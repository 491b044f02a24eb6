// Translation, and changes of the volume as a whole.
#include "formats/luks/luks_driver.h"

#include <cerrno>

#include "block/create_options.h"
#include "schema/types_block_info.h"

namespace cairn::luks {

uint64_t LuksDriver::length() const {
  const uint64_t offset = volume_->payload_offset();
  const uint64_t file = file_.length();
  return volume_->payload_length().value_or(file > offset ? file - offset : 0);
}

// The header was read when the volume was opened, and is written by amend() alone, whose user asks
// for that. So several may have a volume open, as those may who look after its keys.
block::Permissions LuksDriver::child_permissions(block::ChildRole role, block::Permissions parents,
                                                 bool writable) const {
  if (role != block::ChildRole::kImage) {
    return block::default_child_permissions(role, parents, writable);
  }
  block::PermissionSet used = parents.used | block::PermissionSet::kConsistentRead;
  if (used.has(block::PermissionSet::kResize)) {
    used |= block::PermissionSet::kWrite;  // what is new is made to read as zeroes
  }
  return {.used = used, .shared = parents.shared};
}

bool LuksDriver::try_map(uint64_t offset, uint64_t length, block::Extent& extent) {
  if (volume_->codec() == nullptr) {
    return false;
  }
  extent = block::Extent{.length = length,
                         .kind = block::Extent::Kind::kData,
                         .in_place = true,
                         .host_valid = true,
                         .host_offset = offset + volume_->payload_offset(),
                         .child = &file_,
                         .sectors = volume_->codec()};
  return true;
}

io::Task<Result<block::Extent>> LuksDriver::map(uint64_t offset, uint64_t length) {
  block::Extent extent;
  if (!try_map(offset, length, extent)) {
    co_return fail(EPERM, "'{}' was opened without its key", node_->filename());
  }
  co_return extent;
}

io::Task<Result<void>> LuksDriver::resize(uint64_t length, block::ResizeOptions options) {
  if (volume_->payload_length()) {
    co_return fail(ENOTSUP, "The header of '{}' fixes the size of the disk", node_->filename());
  }
  if (length > static_cast<uint64_t>(INT64_MAX) - volume_->payload_offset()) {
    co_return fail(EFBIG, "The requested file size is too large");
  }
  co_return co_await file_.resize(length + volume_->payload_offset(), options);
}

io::Task<Result<void>> LuksDriver::amend(block::CreateOptions options) {
  Result<encryption::LuksAmendment> amendment = encryption::parse_luks_amendment(options, "");
  if (!amendment) {
    co_return pass(amendment);
  }
  co_return co_await volume_->amend(std::move(*amendment));
}

io::Task<Result<std::unique_ptr<schema::ImageInfoSpecific>>> LuksDriver::specific_info() {
  auto info = std::make_unique<schema::ImageInfoSpecific>();
  info->type = schema::ImageInfoSpecificKind::kLuks;
  info->branch = schema::ImageInfoSpecificLUKSWrapper{volume_->info()};
  co_return info;
}

}  // namespace cairn::luks
