// Exports: nodes that are served to somebody outside, and the registry of all of them.
//
// Every kind of export (NBD, …) is an ExportType that makes Exports. The registry does what is
// common: it checks ids, finds the node, takes the permissions through a root edge, remembers who
// is there, and tells when an export is gone.
//
// Invariants
// - An id is in the registry from the moment add() has checked it until on_deleted has been called.
// - An export holds its root edge until its clients are gone and what they asked for is answered.
// - All of it on the graph's home reactor, but for the front ends of exports that have a thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "block/graph.h"
#include "block/node.h"
#include "exports/node_access.h"
#include "exports/node_threads.h"
#include "io/reactor.h"
#include "io/task.h"
#include "io/task_group.h"

namespace cairn::schema {
struct BlockExportOptions;
}

namespace cairn::exports {

// What every export is asked for, whatever its kind.
struct ExportSettings {
  std::string id;
  std::string node_name;
  bool writable = false;
  // Every write is durable before it is acknowledged.
  bool writethrough = false;
  // The I/O thread that its front end runs on; null: none, it runs at home.
  Thread thread = {};
  // The node must not be moved to another thread.
  bool fixed_thread = false;
};

class Export {
 public:
  Export(std::string_view type, ExportSettings settings, std::unique_ptr<block::Edge> root);
  Export(const Export&) = delete;
  Export& operator=(const Export&) = delete;
  virtual ~Export();

  [[nodiscard]] const std::string& id() const { return settings_.id; }
  // As in the schema's BlockExportType: "nbd".
  [[nodiscard]] std::string_view type() const { return type_; }
  [[nodiscard]] const std::string& node_name() const { return settings_.node_name; }
  [[nodiscard]] bool writable() const { return settings_.writable; }
  [[nodiscard]] bool writethrough() const { return settings_.writethrough; }
  [[nodiscard]] bool shutting_down() const { return shutting_down_; }

  // The edge through which all requests go. Not after close().
  [[nodiscard]] block::Edge& root() const { return *root_; }
  [[nodiscard]] block::Node& node() const { return root_->node(); }

  // Where the front end runs: on its I/O thread, or at home.
  [[nodiscard]] io::Reactor& reactor() const {
    return settings_.thread ? *settings_.thread : home_;
  }
  // The way to the node for the front end. Not after close().
  [[nodiscard]] NodeAccess access() const { return {*root_, home_, settings_.thread != nullptr}; }

  // Clients are connected: a safe removal is refused.
  [[nodiscard]] virtual bool in_use() const = 0;

 protected:
  friend class ExportRegistry;

  // Takes the export away from clients to come, disconnects those that are there, and completes
  // when every request they made is done. Called once.
  [[nodiscard]] virtual io::Task<void> close() = 0;

 private:
  std::string_view type_;
  ExportSettings settings_;
  io::Reactor& home_ = io::Reactor::current();
  std::unique_ptr<block::Edge> root_;
  bool shutting_down_ = false;
};

// One kind of export. Lives longer than the registry's exports.
class ExportType {
 public:
  ExportType() = default;
  ExportType(const ExportType&) = delete;
  ExportType& operator=(const ExportType&) = delete;
  virtual ~ExportType() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;

  // Whether exports of this kind can be served at all: told after what an export does to its node,
  // before what it keeps others from.
  [[nodiscard]] virtual Result<void> check_ready() const { return {}; }

  // What users of the node besides this export may do.
  [[nodiscard]] virtual block::PermissionSet shared_permissions() const {
    return block::PermissionSet::all();
  }

  // Checks this kind's own options and starts serving. `root` is taken only on success. What is
  // passed outlives the task.
  [[nodiscard]] virtual io::Task<Result<std::unique_ptr<Export>>> create(
      const schema::BlockExportOptions& options, const ExportSettings& settings,
      std::unique_ptr<block::Edge>& root) = 0;
};

enum class RemoveMode : uint8_t {
  kSafe,  // refused when clients are connected
  kHard,  // clients are disconnected
};

struct ExportInfo {
  std::string id;
  std::string_view type;
  std::string node_name;
  bool shutting_down = false;
};

class ExportRegistry {
 public:
  explicit ExportRegistry(block::Graph& graph);
  ExportRegistry(const ExportRegistry&) = delete;
  ExportRegistry& operator=(const ExportRegistry&) = delete;
  // remove_all() first.
  ~ExportRegistry();

  // `type` outlives the registry.
  void add_type(ExportType& type) { types_.push_back(&type); }

  // Called with the id of every export that is gone, whoever asked for it: BLOCK_EXPORT_DELETED.
  void set_on_deleted(std::function<void(const std::string& id)> callback) {
    on_deleted_ = std::move(callback);
  }

  // How I/O threads are found by name. Without one there are none.
  void set_find_thread(std::function<Result<Thread>(const std::string& name)> find) {
    find_thread_ = std::move(find);
  }

  // block-export-add. Fails for a malformed or used id, an unknown node, a permission conflict, a
  // thread that is not there or that the node must not move to, and for what the kind of export
  // objects to; nothing is left behind then. `options` outlives the task.
  [[nodiscard]] io::Task<Result<void>> add(const schema::BlockExportOptions& options);

  // block-export-del: starts the removal and returns; on_deleted tells when the export is gone.
  // Fails for an id that is not there, and in safe mode for an export that is in use.
  [[nodiscard]] Result<void> remove(std::string_view id, RemoveMode mode);

  // Which thread exports of a node are served on that have none of their own.
  [[nodiscard]] NodeThreads& threads() { return threads_; }

  // query-block-exports: the youngest first.
  [[nodiscard]] std::vector<ExportInfo> query() const;

  // Removes every export of `type`, or of all types when it is empty, and completes when they are
  // gone and on_deleted has been called for each.
  [[nodiscard]] io::Task<void> remove_all(std::string_view type = {});

 private:
  [[nodiscard]] Export* find(std::string_view id) const;
  [[nodiscard]] bool id_in_use(std::string_view id) const;
  void start_removal(Export& victim);
  io::Task<void> remove_task(Export* victim);
  io::Task<Result<void>> add_checked(const schema::BlockExportOptions& options, ExportType& type);
  [[nodiscard]] Result<Thread> place(const schema::BlockExportOptions& options,
                                     const std::shared_ptr<block::Node>& node);

  block::Graph& graph_;
  std::vector<ExportType*> types_;
  std::vector<std::unique_ptr<Export>> exports_;  // the youngest last
  std::vector<std::string> ids_being_added_;
  std::function<void(const std::string& id)> on_deleted_;
  std::function<Result<Thread>(const std::string& name)> find_thread_;
  NodeThreads threads_;
  io::TaskGroup removals_;
};

}  // namespace cairn::exports
