// Translation, and what concerns the image as a whole.
#include "formats/vmdk/driver.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/driver_table.h"

namespace cairn::vmdk {

namespace {

// Locks are on units of the disk, so they have to hold whole grains. Where an extent begins within
// a unit, the only one that surely does is all of the disk.
uint64_t unit_for(const std::vector<VmdkExtent>& extents) {
  uint64_t unit = kSector;
  bool aligned = true;
  for (const VmdkExtent& extent : extents) {
    if (extent.sparse()) {
      unit = std::max(unit, extent.grain);
      aligned = aligned && is_aligned(extent.begin, extent.grain);
    }
  }
  return aligned ? unit : std::bit_ceil(std::max(extents.back().end, unit));
}

// The image that holes read from, below filters; null when it is of another format.
const VmdkDriver* parent_driver(const block::Node& node) {
  const block::Edge* below = node.backing();
  while (below != nullptr) {
    if (auto* driver = dynamic_cast<const VmdkDriver*>(&below->node().driver())) {
      return driver;
    }
    if (below->node().info().kind != block::DriverInfo::Kind::kFilter) {
      return nullptr;
    }
    below = below->node().child("file");
  }
  return nullptr;
}

}  // namespace

VmdkDriver::VmdkDriver(std::vector<VmdkExtent> extents, std::string create_type,
                       std::unique_ptr<ContentId> content, bool writable)
    : extents_(std::move(extents)),
      create_type_(std::move(create_type)),
      content_(std::move(content)),
      writable_(writable) {
  if (!extents_.empty()) {
    allocation_unit_ = unit_for(extents_);
  }
}

uint64_t VmdkDriver::length() const { return extents_.empty() ? 0 : extents_.back().end; }

uint32_t VmdkDriver::cluster_size() const {
  return extents_.empty() ? 0 : static_cast<uint32_t>(extents_.front().grain);
}

std::string VmdkDriver::backing_format() const {
  return content_->parent_name().empty() ? "" : "vmdk";
}

VmdkExtent& VmdkDriver::extent_at(uint64_t offset) {
  return *std::ranges::upper_bound(extents_, offset, {}, &VmdkExtent::end);
}

// False when more has to be known before the answer can be given.
bool VmdkDriver::settle(const VmdkExtent& part, block::Extent& extent) const {
  extent.in_place = extent.in_place && writable_ && content_->changed() &&
                    (!part.sparse() ||
                     part.tables->check_data_place(extent.host_offset, extent.length).has_value());
  return extent.kind != block::Extent::Kind::kHole || parent_checked_ ||
         node_->backing() == nullptr;
}

// Whether the backing image still is the one that this image was made for.
Result<void> VmdkDriver::check_parent() {
  if (parent_checked_ || node_->backing() == nullptr) {
    return {};
  }
  const VmdkDriver* parent = parent_driver(*node_);
  if (parent == nullptr || parent->content().id() != content_->parent()) {
    return fail(EINVAL, "The content of '{}' is not what '{}' was made for",
                node_->backing()->node().filename(), node_->filename());
  }
  parent_checked_ = true;
  return {};
}

bool VmdkDriver::try_map(uint64_t offset, uint64_t length, block::Extent& extent) {
  const VmdkExtent& part = extent_at(offset);
  if (part.se_map != nullptr) {
    length = std::min(length, part.end - offset);
    return part.se_map->try_map(offset - part.begin, length, extent) && settle(part, extent);
  }
  if (!part.sparse()) {
    extent = part.map_flat(offset, length);
    return settle(part, extent);
  }
  const GrainTable* table = part.tables->find(part.table_index(offset));
  if (table == nullptr) {
    return false;
  }
  extent = part.map_grains(*table, offset, length);
  return settle(part, extent);
}

io::Task<Result<block::Extent>> VmdkDriver::map(uint64_t offset, uint64_t length) {
  const VmdkExtent& part = extent_at(offset);
  block::Extent extent;
  bool settled = false;
  if (part.se_map != nullptr) {
    const uint64_t in_part = std::min(length, part.end - offset);
    const auto found = co_await part.se_map->map(offset - part.begin, in_part);
    if (!found) {
      co_return std::unexpected(found.error());
    }
    extent = *found;
    settled = settle(part, extent);
  } else if (part.sparse() && part.tables->find(part.table_index(offset)) == nullptr) {
    const auto fetched = co_await part.tables->fetch(part.table_index(offset));
    if (!fetched) {
      co_return std::unexpected(fetched.error());
    }
    extent = part.map_grains(**fetched, offset, length);
    settled = settle(part, extent);
  } else {
    settled = try_map(offset, length, extent);
  }
  if (!settled) {
    if (auto sound = check_parent(); !sound) {
      co_return pass(sound);
    }
  }
  co_return extent;
}

io::Task<Result<void>> VmdkDriver::flush() {
  Result<void> result;
  for (const VmdkExtent& extent : extents_) {
    Result<void> flushed;
    if (extent.sparse()) {
      flushed = co_await extent.tables->write_out();
    } else {
      flushed = co_await extent.file->flush();
    }
    result = result ? std::move(flushed) : std::move(result);
  }
  co_return result;
}

io::Task<Result<void>> VmdkDriver::close() { return quiesce(); }

io::Task<Result<void>> VmdkDriver::quiesce() {
  if (!writable_) {
    co_return Result<void>{};
  }
  co_return co_await flush();
}

io::Task<Result<void>> VmdkDriver::resize(uint64_t /*length*/, block::ResizeOptions /*options*/) {
  co_return fail(ENOTSUP, "Image format driver does not support resize");
}

bool VmdkDriver::metadata_durable() const {
  return std::ranges::all_of(extents_, [](const VmdkExtent& extent) {
    return !extent.sparse() || extent.tables->durable();
  });
}

}  // namespace cairn::vmdk
