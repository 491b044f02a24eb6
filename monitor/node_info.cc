// Descriptions of nodes for query-named-block-nodes and query-blockstats.
#include "monitor/node_info.h"

#include <algorithm>
#include <climits>
#include <map>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <utility>

#include "block/dirty_bitmap.h"
#include "block/node_info.h"
#include "io/buffer.h"
#include "io/reactor.h"
#include "jobs/block_job.h"
#include "jobs/job_list.h"

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
  if (!bitmap.name().starts_with('#')) {  // those of jobs have no name that means anything
    info.name = bitmap.name();
  }
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

// Nothing for a limit that is none.
template <typename Number>
std::optional<Number> unless_below(Number least, Number value) {
  return value < least ? std::nullopt : std::optional(value);
}

// What memory has to be aligned to so that neither the node nor what lies below it copies it.
uint64_t memory_alignment(const block::Node& node) {
  uint64_t alignment = node.limits().memory_alignment;
  for (const auto& edge : node.children()) {
    if (edge->role() != block::ChildRole::kBacking) {
      alignment = std::max(alignment, memory_alignment(edge->node()));
    }
  }
  return alignment;
}

schema::BlockLimitsInfo describe_limits(const block::Node& node) {
  const block::Limits& limits = node.limits();
  schema::BlockLimitsInfo info;
  info.request_alignment = limits.request_alignment;
  info.max_discard = unless_below<uint64_t>(1, limits.max_discard);
  info.max_write_zeroes = unless_below<uint64_t>(1, limits.max_zeroes);
  info.max_transfer = unless_below(1U, static_cast<uint32_t>(limits.max_transfer));
  uint64_t zero_alignment = limits.zero_alignment;
  uint64_t discard_alignment = limits.discard_alignment;
  if (const auto* format = node.driver().as_translating()) {
    zero_alignment = format->zeroing_unit();
    discard_alignment = format->allocation_unit();
  }
  info.write_zeroes_alignment = unless_below(2U, static_cast<uint32_t>(zero_alignment));
  info.discard_alignment = unless_below(2U, static_cast<uint32_t>(discard_alignment));
  info.max_iov = IOV_MAX;
  info.min_mem_alignment = memory_alignment(node);
  info.opt_mem_alignment = std::max<uint64_t>(info.min_mem_alignment, io::AlignedBuffer::kPage);
  return info;
}

}  // namespace

io::Task<Result<schema::BlockDeviceInfo>> describe_node(const block::Node& node, bool flat) {
  schema::BlockDeviceInfo info;
  info.file = node.filename();
  info.node_name = node.name();
  info.ro = node.read_only();
  info.drv = node.info().name;
  info.active = node.active();
  info.encrypted = node.driver().encrypted();
  info.detect_zeroes = detect_zeroes(node);
  info.cache.writeback = true;
  info.cache.direct = node.options().cache_direct;
  info.cache.no_flush = node.options().no_flush;
  info.write_threshold = as_signed(node.write_threshold());
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
  info.image.limits = describe_limits(node);
  // The images below, each inside the one above it; what a filter shows counts as one.
  schema::ImageInfo* above = &info.image;
  const block::Edge* backing = node.backing();
  while (!flat && backing) {
    ++info.backing_file_depth;
    auto below = co_await block::describe_image(backing->node());
    if (!below) {
      co_return pass(below);
    }
    schema::ImageInfo next;
    static_cast<schema::BlockNodeInfo&>(next) = std::move(*below);
    next.limits = describe_limits(backing->node());
    above->backing_image.emplace(std::move(next));
    above = &**above->backing_image;
    backing = backing->node().backing();
  }
  co_return info;
}

schema::BlockStats describe_statistics(const block::Node& node) {
  const block::Statistics& counters = node.statistics();
  schema::BlockStats info;
  info.node_name = node.name();
  schema::BlockDeviceStats& stats = info.stats;
  stats.rd_bytes = as_signed(counters.reads.bytes);
  stats.wr_bytes = as_signed(counters.writes.bytes);
  stats.unmap_bytes = as_signed(counters.unmaps.bytes);
  stats.rd_operations = as_signed(counters.reads.operations);
  stats.wr_operations = as_signed(counters.writes.operations);
  stats.flush_operations = as_signed(counters.flushes.operations);
  stats.unmap_operations = as_signed(counters.unmaps.operations);
  stats.rd_total_time_ns = counters.reads.time.count();
  stats.wr_total_time_ns = counters.writes.time.count();
  stats.flush_total_time_ns = counters.flushes.time.count();
  stats.unmap_total_time_ns = counters.unmaps.time.count();
  stats.failed_rd_operations = as_signed(counters.reads.failed);
  stats.failed_wr_operations = as_signed(counters.writes.failed);
  stats.failed_flush_operations = as_signed(counters.flushes.failed);
  stats.failed_unmap_operations = as_signed(counters.unmaps.failed);
  stats.invalid_rd_operations = as_signed(counters.reads.invalid);
  stats.invalid_wr_operations = as_signed(counters.writes.invalid);
  stats.invalid_unmap_operations = as_signed(counters.unmaps.invalid);
  stats.wr_highest_offset = as_signed(counters.write_highest_offset);
  if (counters.last_access != io::TimePoint()) {
    stats.idle_time_ns = (io::Reactor::current().now() - counters.last_access).count();
  }
  stats.account_failed = false;
  stats.account_invalid = false;
  if (auto specific = node.driver().specific_statistics()) {
    info.driver_specific.emplace(*specific);
  }
  if (const block::Edge* file = node.child("file")) {
    info.parent.emplace(describe_statistics(file->node()));
  }
  if (const block::Edge* backing = node.child("backing")) {
    info.backing.emplace(describe_statistics(backing->node()));
  }
  return info;
}

schema::XDbgBlockGraph describe_graph(const block::Graph& graph, const jobs::JobList& jobs) {
  schema::XDbgBlockGraph result;
  std::map<const block::Node*, uint64_t> ids;
  uint64_t next = 1;
  const auto add_vertex = [&](schema::XDbgBlockGraphNodeType type, std::string name) {
    result.nodes.push_back({.id = next, .type = type, .name = std::move(name)});
    return next++;
  };
  for (const block::Node* node : graph.nodes() | std::views::reverse) {  // the newest first
    ids[node] = add_vertex(schema::XDbgBlockGraphNodeType::kBlockDriver, node->name());
  }
  std::map<const block::Edge*, uint64_t> of_jobs;
  for (const auto& job : jobs.jobs()) {
    if (const auto* user = dynamic_cast<const jobs::BlockJob*>(job.get())) {
      const uint64_t id = add_vertex(schema::XDbgBlockGraphNodeType::kBlockJob, user->id());
      for (const auto& edge : user->kept()) {
        of_jobs[edge.get()] = id;
      }
    }
  }
  const auto parent_of = [&](const block::Edge* edge) {
    if (edge->parent() != nullptr) {
      return ids[edge->parent()];
    }
    const auto job = of_jobs.find(edge);
    return job != of_jobs.end() ? job->second
                                : add_vertex(schema::XDbgBlockGraphNodeType::kBlockBackend, "");
  };
  for (const block::Node* node : graph.nodes()) {
    for (const block::Edge* edge : node->parents()) {
      const uint64_t parent = parent_of(edge);
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
