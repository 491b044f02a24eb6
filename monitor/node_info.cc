// Descriptions of nodes for query-named-block-nodes and query-blockstats.
#include "monitor/node_info.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "block/dirty_bitmap.h"
#include "block/node_info.h"

namespace cairn::monitor {

namespace {

schema::BlockdevDetectZeroesOptions detect_zeroes(const block::Node& node) {
  switch (node.options().detect_zeroes) {
    case block::NodeOptions::DetectZeroes::kOn:
      return schema::BlockdevDetectZeroesOptions::kOn;
    case block::NodeOptions::DetectZeroes::kUnmap:
      return schema::BlockdevDetectZeroesOptions::kUnmap;
    case block::NodeOptions::DetectZeroes::kOff:
      break;
  }
  return schema::BlockdevDetectZeroesOptions::kOff;
}

std::vector<schema::BlockPermission> permission_list(block::PermissionSet set) {
  std::vector<schema::BlockPermission> result;
  const std::pair<block::PermissionSet::Bit, schema::BlockPermission> all[] = {
      {block::PermissionSet::kConsistentRead, schema::BlockPermission::kConsistentRead},
      {block::PermissionSet::kWrite, schema::BlockPermission::kWrite},
      {block::PermissionSet::kWriteUnchanged, schema::BlockPermission::kWriteUnchanged},
      {block::PermissionSet::kResize, schema::BlockPermission::kResize},
  };
  for (const auto& [bit, permission] : all) {
    if (set.has(bit)) {
      result.push_back(permission);
    }
  }
  return result;
}

schema::BlockDirtyInfo describe_bitmap(const block::DirtyBitmap& bitmap) {
  schema::BlockDirtyInfo info;
  info.name = bitmap.name();
  info.count = static_cast<int64_t>(bitmap.count());
  info.granularity = bitmap.granularity();
  info.recording = bitmap.recording();
  info.busy = bitmap.busy();
  info.persistent = bitmap.persistent();
  if (bitmap.inconsistent()) {
    info.inconsistent = true;
  }
  return info;
}

int64_t as_signed(uint64_t count) { return static_cast<int64_t>(count); }

}  // namespace

io::Task<Result<schema::BlockDeviceInfo>> describe_node(const block::Node& node, bool flat) {
  schema::BlockDeviceInfo info;
  info.file = node.filename();
  info.node_name = node.name();
  info.ro = node.read_only();
  info.drv = node.info().name;
  info.active = node.active();
  info.detect_zeroes = detect_zeroes(node);
  info.cache.writeback = true;
  info.cache.direct = node.options().cache_direct;
  info.cache.no_flush = node.options().no_flush;
  if (const block::Edge* below = node.child("backing")) {
    info.backing_file = below->node().filename();
  }
  for (const auto& edge : node.children()) {
    info.children.push_back({.child = edge->name(), .node_name = edge->node().name()});
  }
  if (node.bitmaps() != nullptr && !node.bitmaps()->empty()) {
    info.dirty_bitmaps.emplace();
    for (const auto& bitmap : node.bitmaps()->all()) {
      info.dirty_bitmaps->push_back(describe_bitmap(*bitmap));
    }
  }
  auto image = co_await block::describe_image(node);
  if (!image) {
    co_return pass(image);
  }
  static_cast<schema::BlockNodeInfo&>(info.image) = std::move(*image);
  // The images below, each inside the one above it.
  schema::ImageInfo* above = &info.image;
  const block::Edge* backing = node.child("backing");
  while (!flat && backing) {
    auto below = co_await block::describe_image(backing->node());
    if (!below) {
      co_return pass(below);
    }
    schema::ImageInfo next;
    static_cast<schema::BlockNodeInfo&>(next) = std::move(*below);
    above->backing_image.emplace(std::move(next));
    above = &**above->backing_image;
    backing = backing->node().child("backing");
  }
  co_return info;
}

schema::BlockStats describe_statistics(const block::Node& node) {
  const block::Statistics& counters = node.statistics();
  schema::BlockStats info;
  info.node_name = node.name();
  schema::BlockDeviceStats& stats = info.stats;
  stats.rd_bytes = as_signed(counters.read_bytes);
  stats.wr_bytes = as_signed(counters.write_bytes);
  stats.unmap_bytes = as_signed(counters.unmap_bytes);
  stats.rd_operations = as_signed(counters.read_operations);
  stats.wr_operations = as_signed(counters.write_operations);
  stats.flush_operations = as_signed(counters.flush_operations);
  stats.unmap_operations = as_signed(counters.unmap_operations);
  stats.wr_highest_offset = as_signed(counters.write_highest_offset);
  stats.account_failed = false;
  stats.account_invalid = false;
  if (const block::Edge* file = node.child("file")) {
    info.parent.emplace(describe_statistics(file->node()));
  }
  if (const block::Edge* backing = node.child("backing")) {
    info.backing.emplace(describe_statistics(backing->node()));
  }
  return info;
}

schema::XDbgBlockGraph describe_graph(const block::Graph& graph) {
  schema::XDbgBlockGraph result;
  std::map<const block::Node*, uint64_t> ids;
  uint64_t next = 1;
  const auto add_vertex = [&](schema::XDbgBlockGraphNodeType type, std::string name) {
    result.nodes.push_back({.id = next, .type = type, .name = std::move(name)});
    return next++;
  };
  for (const block::Node* node : graph.nodes()) {
    ids[node] = add_vertex(schema::XDbgBlockGraphNodeType::kBlockDriver, node->name());
  }
  for (const block::Node* node : graph.nodes()) {
    for (const block::Edge* edge : node->parents()) {
      const uint64_t parent = edge->parent()
                                  ? ids[edge->parent()]
                                  : add_vertex(schema::XDbgBlockGraphNodeType::kBlockBackend, "");
      const block::Permissions permissions = edge->permissions();
      result.edges.push_back({.parent = parent,
                              .child = ids[node],
                              .name = edge->name(),
                              .perm = permission_list(permissions.used),
                              .shared_perm = permission_list(permissions.shared)});
    }
  }
  return result;
}

}  // namespace cairn::monitor
