#include "block/node_info.h"

#include <memory>
#include <string>
#include <utility>

#include "block/driver_table.h"
#include "block/filename.h"
#include "block/node.h"
#include "schema/types_block_info.h"

namespace cairn::block {

int64_t allocated_size(const Node& node) {
  if (node.children().empty()) {
    return node.driver().allocated_size();
  }
  int64_t sum = 0;
  for (const auto& edge : node.children()) {
    if (edge->role() == ChildRole::kBacking) {
      continue;
    }
    const int64_t size = allocated_size(edge->node());
    if (size < 0) {
      return size;
    }
    sum += size;
  }
  return sum;
}

schema::SnapshotInfo describe_snapshot(const Snapshot& snapshot) {
  constexpr uint64_t kPerSecond = 1'000'000'000;
  schema::SnapshotInfo info;
  info.id = snapshot.id;
  info.name = snapshot.name;
  info.vm_state_size = static_cast<int64_t>(snapshot.vm_state_size);
  info.date_sec = static_cast<int64_t>(snapshot.date_seconds);
  info.date_nsec = snapshot.date_nanoseconds;
  info.vm_clock_sec = static_cast<int64_t>(snapshot.vm_clock_nanoseconds / kPerSecond);
  info.vm_clock_nsec = static_cast<int64_t>(snapshot.vm_clock_nanoseconds % kPerSecond);
  if (snapshot.icount) {
    info.icount = static_cast<int64_t>(*snapshot.icount);
  }
  return info;
}

io::Task<Result<schema::BlockNodeInfo>> describe_image(const Node& node) {
  schema::BlockNodeInfo info;
  Driver& driver = node.driver();
  info.filename = node.filename();
  info.format = std::string(node.info().name);
  info.virtual_size = static_cast<int64_t>(node.length());
  info.dirty_flag = driver.dirty();
  if (const int64_t size = allocated_size(node); size >= 0) {
    info.actual_size = size;
  }
  if (driver.encrypted()) {
    info.encrypted = true;
  }
  if (driver.cluster_size() != 0) {
    info.cluster_size = driver.cluster_size();
  }
  if (const std::string backing = driver.backing_filename(); !backing.empty()) {
    info.backing_filename = backing;
    const Edge* file = node.child("file");
    info.full_backing_filename =
        resolve_relative(file != nullptr ? file->node().filename() : node.filename(), backing);
    if (std::string format = driver.backing_format(); !format.empty()) {
      info.backing_filename_format = std::move(format);
    }
  }
  if (const Result<std::vector<Snapshot>> snapshots = driver.snapshots();
      snapshots && !snapshots->empty()) {
    info.snapshots.emplace();
    for (const Snapshot& snapshot : *snapshots) {
      info.snapshots->push_back(describe_snapshot(snapshot));
    }
  }
  Result<std::unique_ptr<schema::ImageInfoSpecific>> specific = co_await driver.specific_info();
  if (!specific) {
    co_return pass(specific);
  }
  if (*specific != nullptr) {
    info.format_specific = std::move(**specific);
  }
  co_return info;
}

io::Task<Result<schema::BlockGraphInfo>> describe_tree(const Node& node) {
  schema::BlockGraphInfo info;
  Result<schema::BlockNodeInfo> own = co_await describe_image(node);
  if (!own) {
    co_return pass(own);
  }
  static_cast<schema::BlockNodeInfo&>(info) = std::move(*own);
  // The youngest first.
  const auto& children = node.children();
  for (auto edge = children.rbegin(); edge != children.rend(); ++edge) {
    Result<schema::BlockGraphInfo> below = co_await describe_tree((*edge)->node());
    if (!below) {
      co_return below;
    }
    info.children.push_back({.name = (*edge)->name(), .info = std::move(*below)});
  }
  co_return info;
}

}  // namespace cairn::block
