// Commands about dirty bitmaps. What they do, and the words of their errors, is in
// block/dirty_bitmap_ops.h.
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "block/dirty_bitmap_ops.h"
#include "monitor/handlers.h"

namespace cairn::monitor {

namespace {

Result<std::shared_ptr<block::Node>> find_node(const Services& services, const std::string& name) {
  std::shared_ptr<block::Node> node = services.graph.find(name);
  if (!node) {
    return fail(ENOENT, "Node '{}' not found", name);
  }
  return node;
}

io::Task<Result<void>> enable(Services& services, schema::BlockDirtyBitmap bitmap, bool on) {
  const auto node = find_node(services, bitmap.node);
  if (!node) {
    co_return std::unexpected(node.error());
  }
  co_return co_await block::enable_bitmap(**node, std::move(bitmap.name), on);
}

}  // namespace

HandlerResult<commands::BlockDirtyBitmapAdd> handle(Services& services,
                                                    commands::BlockDirtyBitmapAdd,
                                                    schema::BlockDirtyBitmapAdd arguments) {
  const std::shared_ptr<block::Node> node = services.graph.find(arguments.node);
  if (!node) {
    co_return fail(ENODEV, "Cannot find device='{0}' nor node-name='{0}'", arguments.node);
  }
  block::NewBitmap wanted{.name = std::move(arguments.name),
                          .granularity = arguments.granularity,
                          .persistent = arguments.persistent.value_or(false),
                          .disabled = arguments.disabled.value_or(false)};
  co_return co_await block::add_bitmap(*node, std::move(wanted));
}

HandlerResult<commands::BlockDirtyBitmapRemove> handle(Services& services,
                                                       commands::BlockDirtyBitmapRemove,
                                                       schema::BlockDirtyBitmap arguments) {
  const auto node = find_node(services, arguments.node);
  if (!node) {
    co_return std::unexpected(node.error());
  }
  co_return co_await block::remove_bitmap(**node, std::move(arguments.name));
}

HandlerResult<commands::BlockDirtyBitmapClear> handle(Services& services,
                                                      commands::BlockDirtyBitmapClear,
                                                      schema::BlockDirtyBitmap arguments) {
  const auto node = find_node(services, arguments.node);
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
  const auto node = find_node(services, arguments.node);
  if (!node) {
    co_return std::unexpected(node.error());
  }
  // Held until the merge is done.
  std::vector<std::shared_ptr<block::Node>> nodes;
  std::vector<block::BitmapSource> sources;
  for (const schema::BlockDirtyBitmapOrStr& source : arguments.bitmaps) {
    if (const auto* local = std::get_if<std::string>(&source.value)) {
      sources.push_back({node->get(), *local});
      continue;
    }
    const auto& external = std::get<schema::BlockDirtyBitmap>(source.value);
    auto other = find_node(services, external.node);
    if (!other) {
      co_return pass(other);
    }
    sources.push_back({other->get(), external.name});
    nodes.push_back(std::move(*other));
  }
  co_return co_await block::merge_bitmaps(**node, std::move(arguments.target), std::move(sources));
}

HandlerResult<commands::XDebugBlockDirtyBitmapSha256> handle(Services& services,
                                                             commands::XDebugBlockDirtyBitmapSha256,
                                                             schema::BlockDirtyBitmap arguments) {
  const auto node = find_node(services, arguments.node);
  if (!node) {
    co_return std::unexpected(node.error());
  }
  Result<std::string> hash = block::bitmap_sha256(**node, arguments.name);
  if (!hash) {
    co_return pass(hash);
  }
  co_return schema::BlockDirtyBitmapSha256{.sha256 = std::move(*hash)};
}

}  // namespace cairn::monitor
