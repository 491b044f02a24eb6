#include "exports/export.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <utility>

#include "base/identifier.h"
#include "block/activation.h"
#include "schema/types_block_export.h"

namespace cairn::exports {

Export::Export(std::string_view type, ExportSettings settings, std::unique_ptr<block::Edge> root)
    : type_(type), settings_(std::move(settings)), root_(std::move(root)) {}

Export::~Export() = default;

ExportRegistry::ExportRegistry(block::Graph& graph) : graph_(graph) {}

ExportRegistry::~ExportRegistry() { assert(exports_.empty() && "call remove_all() first"); }

Export* ExportRegistry::find(std::string_view id) const {
  const auto found =
      std::ranges::find_if(exports_, [id](const auto& entry) { return entry->id() == id; });
  return found == exports_.end() ? nullptr : found->get();
}

bool ExportRegistry::id_in_use(std::string_view id) const {
  return find(id) != nullptr || std::ranges::find(ids_being_added_, id) != ids_being_added_.end();
}

io::Task<Result<void>> ExportRegistry::add(const schema::BlockExportOptions& options) {
  const std::string id = options.id;
  if (!is_identifier(id)) {
    co_return fail(EINVAL, "Invalid block export id");
  }
  if (id_in_use(id)) {
    co_return fail(EEXIST, "Block export id '{}' is already in use", id);
  }
  const std::string_view kind = schema::to_string(options.type);
  const auto type =
      std::ranges::find_if(types_, [kind](const ExportType* t) { return t->name() == kind; });
  if (type == types_.end()) {
    co_return fail(ENOTSUP, "No driver found for the export type '{}'", kind);
  }
  ids_being_added_.push_back(id);
  Result<void> result = co_await add_checked(options, **type);
  std::erase(ids_being_added_, id);
  co_return result;
}

namespace {

// What the export does to the node is asked for first, then whether there can be exports of the
// type, and then what others may not do any more.
io::Task<Result<std::unique_ptr<block::Edge>>> attach_root(block::Graph& graph,
                                                           std::shared_ptr<block::Node> node,
                                                           const ExportType& type, bool writable,
                                                           bool allow_inactive) {
  block::Permissions permissions;
  permissions.used = block::PermissionSet::kConsistentRead;
  if (writable) {
    permissions.used |= block::PermissionSet::kWrite;
  }
  auto root = graph.attach(std::move(node), {}, permissions);
  if (!root) {
    co_return root;
  }
  if (allow_inactive) {
    (*root)->allow_inactive();
  }
  permissions.shared = type.shared_permissions();
  Result<void> ready = type.check_ready();
  if (ready) {
    ready = graph.set_permissions(**root, permissions);
  }
  if (!ready) {
    (void)co_await graph.detach(std::move(*root));  // nothing was written through it
    co_return pass(ready);
  }
  co_return root;
}

}  // namespace

// add(), with the id reserved.
io::Task<Result<void>> ExportRegistry::add_checked(const schema::BlockExportOptions& options,
                                                   ExportType& type) {
  ExportSettings settings{.id = options.id,
                          .node_name = options.node_name,
                          .writable = options.writable.value_or(false),
                          .writethrough = options.writethrough.value_or(false),
                          .fixed_thread = options.fixed_iothread.value_or(false)};
  const bool allow_inactive = options.allow_inactive.value_or(false);
  std::shared_ptr<block::Node> node = graph_.find(settings.node_name);
  if (node == nullptr) {
    co_return fail(ENOENT, "Cannot find device='' nor node-name='{}'", settings.node_name);
  }
  if (settings.writable && node->read_only()) {
    co_return fail(EACCES, "Cannot export read-only node as writable");
  }
  auto thread = place(options, node);
  if (!thread) {
    co_return pass(thread);
  }
  settings.thread = std::move(*thread);
  if (!allow_inactive && !node->active()) {
    const auto alone = co_await graph_.alone();
    Result<void> active = co_await block::activate(node);
    if (!active) {
      threads_.released(node);
      co_return active;
    }
  }
  auto attaching = attach_root(graph_, node, type, settings.writable, allow_inactive);
  auto root = co_await std::move(attaching);
  if (!root) {
    threads_.released(node);
    co_return pass(root);
  }
  auto making = type.create(options, settings, *root);
  auto made = co_await std::move(making);
  if (!made) {
    (void)co_await graph_.detach(std::move(*root));  // nothing was written through it
    threads_.released(node);
    co_return pass(made);
  }
  if (settings.fixed_thread) {
    threads_.pin((*made)->root());
  }
  exports_.push_back(std::move(*made));
  co_return Result<void>{};
}

// The thread of an export that is to be: the one that it names, where its node goes along if it can
// and has to if it is to stay there; otherwise its node's.
Result<Thread> ExportRegistry::place(const schema::BlockExportOptions& options,
                                     const std::shared_ptr<block::Node>& node) {
  if (!options.iothread) {
    return threads_.of(*node);
  }
  auto thread = find_thread_ ? find_thread_(*options.iothread)
                             : fail(ENOENT, "iothread \"{}\" not found", *options.iothread);
  if (thread) {
    Result<void> moved = threads_.move(node, *thread);
    if (!moved && options.fixed_iothread.value_or(false)) {
      return pass(moved);
    }
  }
  return thread;
}

Result<void> ExportRegistry::remove(std::string_view id, RemoveMode mode) {
  Export* const victim = find(id);
  if (victim == nullptr) {
    return fail(ENOENT, "Export '{}' is not found", id);
  }
  if (mode == RemoveMode::kSafe && victim->in_use()) {
    return fail(EBUSY, "export '{}' still in use", id);
  }
  start_removal(*victim);
  return {};
}

std::vector<ExportInfo> ExportRegistry::query() const {
  std::vector<ExportInfo> infos;
  infos.reserve(exports_.size());
  for (auto entry = exports_.rbegin(); entry != exports_.rend(); ++entry) {
    const Export& e = **entry;
    // The node that it was made for may have got another one above it.
    const std::string& node_name = e.root_ != nullptr ? e.node().name() : e.node_name();
    infos.push_back({e.id(), e.type(), node_name, e.shutting_down()});
  }
  return infos;
}

io::Task<void> ExportRegistry::remove_all(std::string_view type) {
  std::vector<std::string> ids;
  for (const auto& entry : exports_) {
    if (type.empty() || entry->type() == type) {
      ids.push_back(entry->id());
    }
  }
  for (const std::string& id : ids) {
    // One that was removed at once may have taken others with it.
    if (Export* const victim = find(id)) {
      start_removal(*victim);
    }
  }
  co_await removals_.join();
}

void ExportRegistry::start_removal(Export& victim) {
  if (!std::exchange(victim.shutting_down_, true)) {
    removals_.spawn(remove_task(&victim));
  }
}

io::Task<void> ExportRegistry::remove_task(Export* victim) {
  co_await victim->close();
  threads_.unpin(victim->root());
  const std::weak_ptr<block::Node> node = victim->root_->shared_node();
  // What a final write-out fails of is reported where the node is closed; the export goes anyway.
  (void)co_await graph_.detach(std::move(victim->root_));
  if (const std::shared_ptr<block::Node> left = node.lock()) {
    threads_.released(left);
  }
  const std::string id = victim->id();
  std::erase_if(exports_, [victim](const auto& entry) { return entry.get() == victim; });
  if (on_deleted_) {
    on_deleted_(id);
  }
}

}  // namespace cairn::exports
