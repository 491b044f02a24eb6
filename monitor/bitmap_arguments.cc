#include "monitor/bitmap_arguments.h"

#include <cerrno>
#include <utility>
#include <variant>

#include "block/dirty_bitmap_ops.h"

namespace cairn::monitor {

Result<std::shared_ptr<block::Node>> find_bitmap_node(const Services& services,
                                                      const std::string& name) {
  std::shared_ptr<block::Node> node = services.graph.find(name);
  if (!node) {
    return fail(ENOENT, "Node '{}' not found", name);
  }
  return node;
}

Result<std::shared_ptr<block::Node>> find_bitmap_device(const Services& services,
                                                        const std::string& name) {
  std::shared_ptr<block::Node> node = services.graph.find(name);
  if (!node) {
    return fail(ENODEV, "Cannot find device='{0}' nor node-name='{0}'", name);
  }
  return node;
}

block::NewBitmap new_bitmap(const schema::BlockDirtyBitmapAdd& arguments) {
  return {.name = arguments.name,
          .granularity = arguments.granularity,
          .persistent = arguments.persistent.value_or(false),
          .disabled = arguments.disabled.value_or(false)};
}

Result<BitmapMerge> find_merge(const Services& services,
                               const schema::BlockDirtyBitmapMerge& arguments) {
  auto node = find_bitmap_node(services, arguments.node);
  if (!node) {
    return pass(node);
  }
  if (auto target = block::get_bitmap(**node, arguments.target); !target) {
    return pass(target);
  }
  BitmapMerge merge{
      .node = std::move(*node), .target = arguments.target, .sources = {}, .others = {}};
  for (const schema::BlockDirtyBitmapOrStr& source : arguments.bitmaps) {
    if (const auto* local = std::get_if<std::string>(&source.value)) {
      merge.sources.push_back({merge.node.get(), *local});
      continue;
    }
    const auto& external = std::get<schema::BlockDirtyBitmap>(source.value);
    auto other = find_bitmap_node(services, external.node);
    if (!other) {
      return pass(other);
    }
    merge.sources.push_back({other->get(), external.name});
    merge.others.push_back(std::move(*other));
  }
  return merge;
}

}  // namespace cairn::monitor
