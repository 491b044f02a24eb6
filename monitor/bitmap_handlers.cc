// Commands about dirty bitmaps. What they do, and the words of their errors, is in
// block/dirty_bitmap_ops.h.
#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "block/dirty_bitmap_ops.h"
#include "crypto/digest.h"
#include "monitor/bitmap_arguments.h"
#include "monitor/handlers.h"

namespace cairn::monitor {

namespace {

io::Task<Result<void>> enable(Services& services, schema::BlockDirtyBitmap bitmap, bool on) {
  const auto node = find_bitmap_node(services, bitmap.node);
  if (!node) {
    co_return std::unexpected(node.error());
  }
  co_return co_await block::enable_bitmap(**node, std::move(bitmap.name), on);
}

}  // namespace

HandlerResult<commands::BlockDirtyBitmapAdd> handle(Services& services,
                                                    commands::BlockDirtyBitmapAdd,
                                                    schema::BlockDirtyBitmapAdd arguments) {
  auto node = find_bitmap_device(services, arguments.node);
  if (!node) {
    co_return pass(node);
  }
  block::NewBitmap wanted = new_bitmap(arguments);
  co_return co_await block::add_bitmap(**node, std::move(wanted));
}

HandlerResult<commands::BlockDirtyBitmapRemove> handle(Services& services,
                                                       commands::BlockDirtyBitmapRemove,
                                                       schema::BlockDirtyBitmap arguments) {
  const auto node = find_bitmap_node(services, arguments.node);
  if (!node) {
    co_return std::unexpected(node.error());
  }
  co_return co_await block::remove_bitmap(**node, std::move(arguments.name));
}

HandlerResult<commands::BlockDirtyBitmapClear> handle(Services& services,
                                                      commands::BlockDirtyBitmapClear,
                                                      schema::BlockDirtyBitmap arguments) {
  const auto node = find_bitmap_node(services, arguments.node);
  if (!node) {
    co_return std::unexpected(node.error());
  }
  co_return co_await block::clear_bitmap(**node, std::move(arguments.name));
}

HandlerResult<commands::BlockDirtyBitmapEnable> handle(Services& services,
                                                       commands::BlockDirtyBitmapEnable,
                                                       schema::BlockDirtyBitmap arguments) {
  co_return co_await enable(services, std::move(arguments), true);
}

HandlerResult<commands::BlockDirtyBitmapDisable> handle(Services& services,
                                                        commands::BlockDirtyBitmapDisable,
                                                        schema::BlockDirtyBitmap arguments) {
  co_return co_await enable(services, std::move(arguments), false);
}

HandlerResult<commands::BlockDirtyBitmapMerge> handle(Services& services,
                                                      commands::BlockDirtyBitmapMerge,
                                                      schema::BlockDirtyBitmapMerge arguments) {
  auto merge = find_merge(services, arguments);
  if (!merge) {
    co_return pass(merge);
  }
  co_return co_await block::merge_bitmaps(*merge->node, std::move(merge->target),
                                          std::move(merge->sources));
}

HandlerResult<commands::XDebugBlockDirtyBitmapSha256> handle(Services& services,
                                                             commands::XDebugBlockDirtyBitmapSha256,
                                                             schema::BlockDirtyBitmap arguments) {
  const auto node = find_bitmap_node(services, arguments.node);
  if (!node) {
    co_return std::unexpected(node.error());
  }
  auto digest = crypto::make_sha256();
  if (!digest) {
    co_return pass(digest);
  }
  const Result<void> read =
      block::read_bitmap(**node, arguments.name,
                         [&digest](std::span<const std::byte> bytes) { (*digest)->update(bytes); });
  if (!read) {
    co_return std::unexpected(read.error());
  }
  Result<std::string> hash = (*digest)->finish();
  if (!hash) {
    co_return pass(hash);
  }
  co_return schema::BlockDirtyBitmapSha256{.sha256 = std::move(*hash)};
}

}  // namespace cairn::monitor
