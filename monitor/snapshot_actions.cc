#include "monitor/snapshot_actions.h"

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "block/create_options.h"
#include "block/filename.h"
#include "block/graph_edit.h"
#include "block/reopen.h"
#include "block/snapshot.h"
#include "monitor/find_node.h"

namespace cairn::monitor {

namespace {

// A root edge of whoever holds the drain.
Result<std::unique_ptr<block::Edge>> attach_in_drain(block::Graph& graph,
                                                     std::shared_ptr<block::Node> node,
                                                     block::PermissionSet used) {
  auto edge = graph.attach(std::move(node), "", {.used = used});
  if (edge) {
    graph.let_through(**edge);
  }
  return edge;
}

// A snapshot in another image: puts an overlay between a node and its users.
class ExternalSnapshot : public Action {
 public:
  explicit ExternalSnapshot(Services& services)
      : graph_(services.graph), jobs_(services.jobs), edit_(services.graph) {}

  [[nodiscard]] io::Task<Result<void>> apply() override {
    auto found = find();
    if (!found) {
      co_return pass(found);
    }
    node_ = std::move(*found);
    hold_ = block::Graph::hold(node_);
    Result<void> result = check_free();
    if (result) {
      result = co_await flush();
    }
    if (result) {
      auto overlay = co_await open_overlay();
      result = overlay ? insert(std::move(*overlay)) : Result<void>(pass(overlay));
    }
    if (!result) {
      co_await undo();
    }
    co_return result;
  }
  // The file of an image that was created stays.
  [[nodiscard]] io::Task<void> undo() override {
    edit_.abort();
    const Result<void> released = co_await let_go();
    static_cast<void>(released);
  }
  // The snapshot is made. A node that can not become read-only, because somebody writes to it all
  // the same, is none the worse for it.
  [[nodiscard]] io::Task<Result<void>> commit() override {
    Result<void> done = co_await edit_.commit();
    const Result<void> frozen = co_await block::set_read_only(node_, true);
    static_cast<void>(frozen);
    Result<void> released = co_await let_go();
    co_return done ? std::move(released) : std::move(done);
  }

 protected:
  [[nodiscard]] block::Graph& graph() const { return graph_; }
  [[nodiscard]] const std::shared_ptr<block::Node>& node() const { return node_; }

  [[nodiscard]] virtual Result<std::shared_ptr<block::Node>> find() = 0;
  // Nobody has to hold it.
  [[nodiscard]] virtual io::Task<Result<std::shared_ptr<block::Node>>> open_overlay() = 0;

 private:
  [[nodiscard]] Result<void> check_free() const {
    if (auto free = jobs_.check_free(*node_); !free) {
      return free;
    }
    return check_not_backing(*node_);
  }
  // A flush of the overlay covers what is written to it; all that came before is in the node.
  [[nodiscard]] io::Task<Result<void>> flush() {
    auto edge = attach_in_drain(graph_, node_, block::PermissionSet::none());
    if (!edge) {
      co_return pass(edge);
    }
    Result<void> flushed = co_await (*edge)->flush();
    Result<void> detached = co_await graph_.detach(std::move(*edge));
    co_return flushed ? std::move(detached) : std::move(flushed);
  }
  [[nodiscard]] Result<void> insert(std::shared_ptr<block::Node> overlay) {
    overlay_ = std::move(overlay);
    overlay_hold_ = block::Graph::hold(overlay_);
    const bool read = std::ranges::any_of(overlay_->parents(), [](const block::Edge* user) {
      return user->permissions().used.has(block::PermissionSet::kConsistentRead);
    });
    if (read) {
      return fail(EBUSY, "The overlay is already in use");
    }
    if (!overlay_->info().supports_backing) {
      return fail(EINVAL, "The overlay does not support backing images");
    }
    if (overlay_->child("backing") != nullptr) {
      return fail(EINVAL, "The overlay already has a backing image");
    }
    auto added = edit_.add_child(*overlay_, "backing", node_, block::ChildRole::kBacking);
    if (!added) {
      return added;
    }
    edit_.insert_above(node_, overlay_);
    return edit_.prepare();
  }
  // What nobody else holds is closed.
  [[nodiscard]] io::Task<Result<void>> let_go() {
    Result<void> result;
    for (std::unique_ptr<block::Edge>* hold : {&hold_, &overlay_hold_}) {
      if (*hold != nullptr) {
        Result<void> released = co_await graph_.detach(std::move(*hold));
        result = result ? std::move(released) : std::move(result);
      }
    }
    co_return result;
  }

  block::Graph& graph_;
  const jobs::JobList& jobs_;
  block::GraphEdit edit_;
  std::shared_ptr<block::Node> node_;
  std::shared_ptr<block::Node> overlay_;
  // Neither is closed before the end, whoever lets go of it.
  std::unique_ptr<block::Edge> hold_;
  std::unique_ptr<block::Edge> overlay_hold_;
};

class NodeSnapshot final : public ExternalSnapshot {
 public:
  NodeSnapshot(Services& services, const schema::BlockdevSnapshot& wanted)
      : ExternalSnapshot(services), wanted_(wanted) {}

 private:
  [[nodiscard]] Result<std::shared_ptr<block::Node>> find() override {
    return find_device_or_node(graph(), wanted_.node, wanted_.node);
  }
  [[nodiscard]] io::Task<Result<std::shared_ptr<block::Node>>> open_overlay() override {
    co_return find_device_or_node(graph(), wanted_.overlay, wanted_.overlay);
  }

  const schema::BlockdevSnapshot& wanted_;
};

class FileSnapshot final : public ExternalSnapshot {
 public:
  FileSnapshot(Services& services, const schema::BlockdevSnapshotSync& wanted)
      : ExternalSnapshot(services), wanted_(wanted) {}

 private:
  [[nodiscard]] Result<std::shared_ptr<block::Node>> find() override;
  [[nodiscard]] io::Task<Result<std::shared_ptr<block::Node>>> open_overlay() override;
  [[nodiscard]] io::Task<Result<void>> create(std::string format);

  const schema::BlockdevSnapshotSync& wanted_;
};

// There are no devices: only a node's name finds anything.
Result<std::shared_ptr<block::Node>> FileSnapshot::find() {
  return find_device_or_node(graph(), wanted_.device.value_or(""), wanted_.node_name.value_or(""));
}

io::Task<Result<void>> FileSnapshot::create(std::string format) {
  const block::DriverInfo* info = graph().drivers().find(format);
  if (info == nullptr) {
    co_return fail(ENOENT, "Unknown file format '{}'", format);
  }
  if (!info->supports_backing) {
    co_return fail(EINVAL, "Backing file not supported for file format '{}'", format);
  }
  const std::string& filename = wanted_.snapshot_file;
  const std::string_view prefix = block::protocol_name(filename);
  const block::DriverInfo* protocol = graph().drivers().find(prefix);
  if (protocol == nullptr || protocol->kind != block::DriverInfo::Kind::kProtocol) {
    co_return fail(ENOENT, "Unknown protocol '{}'", prefix);
  }
  if (protocol->create == nullptr) {
    co_return fail(ENOTSUP, "Protocol driver '{}' does not support image creation", protocol->name);
  }
  if (filename == node()->filename()) {
    co_return fail(EINVAL,
                   "Error: Trying to create an image with the same filename as the backing file");
  }
  block::CreateOptions options(info->create_options);
  const std::string size = std::to_string(node()->length());
  const std::pair<std::string_view, std::string_view> values[] = {
      {"size", size}, {"backing_file", node()->filename()}, {"backing_fmt", node()->info().name}};
  for (const auto& [name, value] : values) {
    if (auto set = options.set(name, value); !set) {
      co_return set;
    }
  }
  co_return co_await info->create(graph(), filename, options);
}

io::Task<Result<std::shared_ptr<block::Node>>> FileSnapshot::open_overlay() {
  const std::string name = wanted_.snapshot_node_name.value_or("");
  if (wanted_.node_name && name.empty()) {
    co_return fail(EINVAL, "New overlay node-name missing");
  }
  if (!name.empty() && graph().find(name) != nullptr) {
    co_return fail(EEXIST, "New overlay node-name already in use");
  }
  const std::string format = wanted_.format.value_or("qcow2");
  if (wanted_.mode != schema::NewImageMode::kExisting) {
    Result<void> created = co_await create(format);
    if (!created) {
      co_return pass(created);
    }
  }
  const block::NodeOptions& below = node()->options();
  const block::OpenFlags flags{.read_only = below.read_only,
                               .no_backing = true,
                               .discard_unmap = below.discard_unmap,
                               .cache_direct = below.cache_direct,
                               .no_flush = below.no_flush};
  co_return co_await graph().open_filename(wanted_.snapshot_file, format, flags, name);
}

class InternalSnapshot final : public Action {
 public:
  InternalSnapshot(Services& services, const schema::BlockdevSnapshotInternal& wanted)
      : graph_(services.graph), jobs_(services.jobs), wanted_(wanted) {}

  [[nodiscard]] io::Task<Result<void>> apply() override;
  [[nodiscard]] io::Task<void> undo() override;

 private:
  using Change = io::Task<Result<void>> (*)(block::Edge& edge, std::string name);

  [[nodiscard]] Result<void> check() const;
  [[nodiscard]] io::Task<Result<void>> change(Change what);

  block::Graph& graph_;
  const jobs::JobList& jobs_;
  const schema::BlockdevSnapshotInternal& wanted_;
  std::shared_ptr<block::Node> node_;
};

Result<void> InternalSnapshot::check() const {
  if (auto free = jobs_.check_free(*node_); !free) {
    return free;
  }
  if (!node_->driver().snapshots()) {
    return fail(ENOTSUP,
                "Block format '{}' used by device '{}' does not support internal snapshots",
                node_->info().name, wanted_.device);
  }
  if (node_->read_only()) {
    return fail(EACCES, "Device '{}' is read only", wanted_.device);
  }
  if (wanted_.name.empty()) {
    return fail(EINVAL, "Name is empty");
  }
  const auto snapshots = list_snapshots(*node_);
  if (!snapshots) {
    return std::unexpected(snapshots.error());
  }
  if (block::find_snapshot_by_name(*snapshots, wanted_.name) != nullptr) {
    return fail(EEXIST, "Snapshot with name '{}' already exists on device '{}'", wanted_.name,
                wanted_.device);
  }
  return {};
}

// Others go on with the image: nothing that they see changes.
io::Task<Result<void>> InternalSnapshot::change(Change what) {
  auto edge = attach_in_drain(graph_, node_, block::PermissionSet::kWrite);
  if (!edge) {
    co_return pass(edge);
  }
  Result<void> changed = co_await what(**edge, wanted_.name);
  Result<void> detached = co_await graph_.detach(std::move(*edge));
  co_return changed ? std::move(detached) : std::move(changed);
}

io::Task<Result<void>> create_now(block::Edge& edge, std::string name) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  block::Snapshot snapshot;
  snapshot.name = std::move(name);
  snapshot.date_seconds = static_cast<uint64_t>(now.tv_sec);
  snapshot.date_nanoseconds = static_cast<uint32_t>(now.tv_nsec);
  return edge.create_snapshot(std::move(snapshot));
}

io::Task<Result<void>> delete_by_name(block::Edge& edge, std::string name) {
  const auto snapshots = edge.snapshots();
  const block::Snapshot* found =
      snapshots ? block::find_snapshot_by_name(*snapshots, name) : nullptr;
  if (found == nullptr) {
    co_return Result<void>{};
  }
  co_return co_await edge.delete_snapshot(found->id);
}

io::Task<Result<void>> InternalSnapshot::apply() {
  auto node = find_root_node(graph_, wanted_.device);
  if (!node) {
    co_return pass(node);
  }
  node_ = std::move(*node);
  if (auto possible = check(); !possible) {
    co_return possible;
  }
  Result<void> created = co_await change(create_now);
  if (!created) {
    co_return pass(created, "Failed to create snapshot '" + wanted_.name + "' on device '" +
                                wanted_.device + "': ");
  }
  co_return created;
}

// A snapshot that can not be deleted stays, and is seen by who looks for it.
io::Task<void> InternalSnapshot::undo() {
  const Result<void> deleted = co_await change(delete_by_name);
  static_cast<void>(deleted);
}

}  // namespace

Result<std::vector<block::Snapshot>> list_snapshots(const block::Node& node) {
  auto snapshots = node.driver().snapshots();
  // An external data file has one place for a cluster, and no room for what it held before.
  if (!snapshots || node.child("data-file") != nullptr) {
    return fail(ENOTSUP, "Failed to get a snapshot list: Operation not supported");
  }
  return snapshots;
}

std::unique_ptr<Action> make_snapshot(Services& services,
                                      const schema::BlockdevSnapshotSync& wanted) {
  return std::make_unique<FileSnapshot>(services, wanted);
}

std::unique_ptr<Action> make_snapshot(Services& services, const schema::BlockdevSnapshot& wanted) {
  return std::make_unique<NodeSnapshot>(services, wanted);
}

std::unique_ptr<Action> make_snapshot(Services& services,
                                      const schema::BlockdevSnapshotInternal& wanted) {
  return std::make_unique<InternalSnapshot>(services, wanted);
}

}  // namespace cairn::monitor
