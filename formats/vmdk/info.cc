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

// The same of a space-efficient one, of which every entry has to be of a known kind as well.
io::Task<Result<void>> VmdkDriver::check_se_extent(VmdkExtent& extent) {
  const uint64_t size = extent.end - extent.begin;
  const uint64_t file_length = extent.file->length();
  for (uint64_t offset = 0; offset < size;) {
    const Result<block::Extent> found = co_await extent.se_map->map(offset, size - offset);
    if (!found) {
      // The field's number for what is no errno of a request.
      co_return fail(EPERM, "ERROR: could not get cluster_offset for sector {}",
                     (extent.begin + offset) / kSector);
    }
    if (found->kind == block::Extent::Kind::kData) {
      const uint64_t host = found->host_offset;
      const uint64_t inside =
          host < file_length ? align_up(file_length - host, extent.grain) : uint64_t{0};
      if (inside < found->length) {
        co_return fail(EINVAL, "ERROR: cluster offset for sector {} points after EOF",
                       (extent.begin + offset + inside) / kSector);
      }
    }
    offset += found->length;
  }
  co_return Result<void>{};
}

io::Task<Result<block::CheckResult>> VmdkDriver::check(block::CheckOptions options) {
  if (options.fix_leaks || options.fix_errors) {
    co_return fail(ENOTSUP, "This image format does not support checks");
  }
  for (VmdkExtent& extent : extents_) {
    Result<void> sound;
    if (extent.se_map != nullptr) {
      sound = co_await check_se_extent(extent);
    } else if (extent.sparse()) {
      sound = co_await check_extent(extent);
    }
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
    if (extent.grain != 0) {
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
