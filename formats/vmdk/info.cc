// What `check` and `info` tell about an open image.
#include <cerrno>

#include "base/bytes.h"
#include "formats/vmdk/driver.h"
#include "schema/types_block_info.h"

namespace cairn::vmdk {

// Every grain has to begin within the file.
io::Task<Result<void>> VmdkDriver::check_extent(VmdkExtent& extent) const {
  for (uint64_t index = 0; index < extent.tables->table_count(); ++index) {
    if (!extent.tables->present(index)) {
      continue;
    }
    const auto table = co_await extent.tables->fetch(index);
    if (!table) {
      co_return std::unexpected(table.error());
    }
    const uint64_t first = extent.begin + index * extent.table_span();
    for (uint64_t entry = 0; entry < (*table)->entries.size(); ++entry) {
      const uint64_t guest = first + entry * extent.grain;
      const uint32_t place = (*table)->entries[entry];
      if (guest < extent.end && extent.has_data(place) &&
          uint64_t{place} * kSector >= extent.file->length()) {
        co_return fail(EINVAL, "ERROR: cluster offset for sector {} points after EOF",
                       guest / kSector);
      }
    }
  }
  co_return Result<void>{};
}

io::Task<Result<block::CheckResult>> VmdkDriver::check(block::CheckOptions options) {
  if (options.fix_leaks || options.fix_errors) {
    co_return fail(ENOTSUP, "This image format does not support checks");
  }
  for (VmdkExtent& extent : extents_) {
    if (!extent.sparse()) {
      continue;
    }
    Result<void> sound = co_await check_extent(extent);
    if (!sound) {
      const int code = sound.error().code();
      if (options.report) {
        options.report(sound.error().message());
      }
      co_return std::unexpected(Error::from_errno(code));
    }
  }
  co_return block::CheckResult{};
}

io::Task<Result<std::unique_ptr<schema::ImageInfoSpecific>>> VmdkDriver::specific_info() {
  schema::ImageInfoSpecificVmdk data;
  data.create_type = create_type_;
  data.cid = content_->id();
  data.parent_cid = content_->parent();
  for (const VmdkExtent& extent : extents_) {
    schema::VmdkExtentInfo& info = data.extents.emplace_back();
    info.filename = extent.file->node().filename();
    info.format = extent.type;
    info.virtual_size = static_cast<int64_t>(extent.end - extent.begin);
    if (extent.sparse()) {
      info.cluster_size = static_cast<int64_t>(extent.grain);
    }
    if (extent.codec != nullptr) {
      info.compressed = true;
    }
  }
  auto info = std::make_unique<schema::ImageInfoSpecific>();
  info->type = schema::ImageInfoSpecificKind::kVmdk;
  info->branch = schema::ImageInfoSpecificVmdkWrapper{std::move(data)};
  co_return info;
}

}  // namespace cairn::vmdk
