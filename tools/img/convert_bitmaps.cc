// cairn-img convert --bitmaps: what it asks of source and target, and copying.
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "block/bitmap_store.h"
#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "tools/common/report.h"
#include "tools/img/convert.h"

namespace cairn::tools {
namespace {

bool keeps_bitmaps(block::Node& node) {
  const block::BitmapStore* store = node.driver().bitmap_store();
  return store != nullptr && store->supported();
}

io::Task<Result<void>> copy_bitmap(block::Node& from, block::Node& to,
                                   const block::DirtyBitmap& bitmap) {
  const std::string& name = bitmap.name();
  block::NewBitmap wanted{
      .name = name, .granularity = bitmap.granularity(), .persistent = true, .disabled = true};
  Result<void> added = co_await block::add_bitmap(to, std::move(wanted));
  if (!added) {
    co_return pass(added, fmt::format("Failed to create bitmap {}: ", name));
  }
  std::vector<block::BitmapSource> sources{{.node = &from, .name = name}};
  Result<void> merged = co_await block::merge_bitmaps(to, name, std::move(sources));
  if (merged && bitmap.enabled()) {
    merged = co_await block::enable_bitmap(to, name, true);
  }
  if (!merged) {
    const Result<void> removed = co_await block::remove_bitmap(to, name);
    static_cast<void>(removed);
    co_return pass(merged, fmt::format("Failed to populate bitmap {}: ", name));
  }
  co_return merged;
}

}  // namespace

Result<void> check_source_bitmaps(const ConvertRequest& request, block::Node& source) {
  if (request.sources.size() > 1) {
    return fail(ENOTSUP, "Copying bitmaps only possible with single source");
  }
  if (!keeps_bitmaps(source)) {
    return fail(ENOTSUP, "Source lacks bitmap support");
  }
  if (source.bitmaps() == nullptr || request.skip_broken_bitmaps) {
    return {};
  }
  for (const auto& bitmap : source.bitmaps()->all()) {
    if (bitmap->persistent() && bitmap->inconsistent()) {
      return std::unexpected(
          Error(EINVAL, fmt::format("Cannot copy inconsistent bitmap '{}'", bitmap->name()))
              .with_hint("Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete "
                         "it"));
    }
  }
  return {};
}

Result<void> check_target_bitmaps(block::Node& target) {
  if (!keeps_bitmaps(target)) {
    return fail(ENOTSUP, "Format driver '{}' does not support bitmaps", target.info().name);
  }
  return {};
}

io::Task<Result<void>> copy_bitmaps(block::Node& from, block::Node& to) {
  Result<void> result;
  if (from.bitmaps() == nullptr) {
    co_return result;
  }
  for (const auto& bitmap : from.bitmaps()->all()) {
    if (!bitmap->persistent()) {
      continue;
    }
    if (bitmap->inconsistent()) {
      report_warning(fmt::format("Skipping inconsistent bitmap '{}'", bitmap->name()));
      continue;
    }
    result = co_await copy_bitmap(from, to, *bitmap);
    if (!result) {
      co_return result;
    }
  }
  co_return result;
}

}  // namespace cairn::tools
