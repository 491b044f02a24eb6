// The graph's books: names, holders, drain, and closing.
#include "block/graph.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstdio>
#include <unordered_set>

#include "base/identifier.h"
#include "block/engine.h"
#include "block/length_listener.h"
#include "block/node_name.h"
#include "io/wait_in.h"

namespace cairn::block {
namespace {

constexpr std::size_t kLongestName = 31;

}  // namespace

Graph::~Graph() {
  assert(monitor_nodes_.empty() && "close_all() first");
  assert(nodes_.empty());
}

std::string Graph::generate_name() { return fmt::format("#block{:03}", generated_names_++); }

Result<void> Graph::check_name(std::string_view name) const {
  if (!is_identifier(name)) {
    return fail(EINVAL, "Invalid node-name: '{}'", name);
  }
  if (name.size() > kLongestName) {
    return fail(EINVAL, "Node name too long");
  }
  const bool taken = std::ranges::any_of(
      nodes_, [name](const Node* node) { return node->name() == name && !node->closing_; });
  if (taken) {
    return fail(EINVAL, "Duplicate nodes with node-name='{}'", name);
  }
  return {};
}

std::shared_ptr<Node> Graph::find(std::string_view name) const {
  const auto found = std::ranges::find_if(nodes_, [name](const Node* node) {
    return node->name() == name && !node->closing_ && node->driver_ != nullptr;
  });
  return found == nodes_.end() ? nullptr : (*found)->shared_from_this();
}

bool Graph::held_by_monitor(const Node& node) const {
  return std::ranges::any_of(monitor_nodes_, [&](const auto& held) { return held.get() == &node; });
}

io::Task<Result<void>> Graph::add_monitor_node(const schema::BlockdevOptions& options) {
  Result<std::shared_ptr<Node>> node = co_await open(options, OpenFlags{});
  if (!node) {
    co_return pass(node);
  }
  monitor_nodes_.push_back(std::move(*node));
  co_return Result<void>{};
}

io::Task<Result<void>> Graph::remove_monitor_node(std::string name) {
  const auto lock = co_await changes_.lock();
  const std::shared_ptr<Node> node = find(name);
  if (node == nullptr) {
    co_return fail(ENOENT, "Failed to find node with node-name='{}'", name);
  }
  for (const Edge* user : node->parents()) {
    if (user->parent() == nullptr) {
      co_return fail(EBUSY, "Node {} is in use", name);
    }
    if (user->role() == ChildRole::kBacking) {
      co_return fail(EBUSY, "Node '{}' is busy: node is used as backing hd of '{}'", name,
                     user->parent()->name());
    }
  }
  if (!held_by_monitor(*node)) {
    co_return fail(EPERM, "Node {} is not owned by the monitor", name);
  }
  if (!node->parents().empty()) {
    co_return fail(EBUSY, "Block device {} is in use", name);
  }
  std::erase(monitor_nodes_, node);
  co_return co_await release(node);
}

io::Task<Result<void>> Graph::release(std::shared_ptr<Node> node) {
  if (!node->parents().empty() || held_by_monitor(*node)) {
    co_return Result<void>{};
  }
  if (std::exchange(node->closing_, true)) {
    co_return Result<void>{};
  }
  while (node->in_flight_ != 0) {
    co_await io::WaitIn(node->in_flight_waiters_);
  }
  Result<void> result;
  if (node->driver_ != nullptr && !node->active() &&
      node->info().kind != DriverInfo::Kind::kProtocol) {
    node->driver_->retire();  // its image is somebody else's
  } else if (node->driver_ != nullptr) {
    // What was acknowledged is durable once a node is closed, with every driver.
    result = co_await Engine::flush_node(*node);
    if (!result && result.error().code() == EINVAL && node->length() == 0) {
      result = {};  // what can not be flushed, such as /dev/null, has nothing to lose
    }
    Result<void> closed = co_await node->driver_->close();
    if (!closed) {
      result = std::move(closed);  // it knows better what was lost
    }
  }
  co_await drop_children(*node, result);
  std::erase(nodes_, node.get());
  co_return result;
}

io::Task<void> Graph::drop_children(Node& node, Result<void>& result) {
  node.backing_ = nullptr;
  while (!node.children_.empty()) {
    std::shared_ptr<Node> child = node.children_.back()->child_;
    node.children_.pop_back();
    Result<void> settled = co_await settle(child);
    Result<void> released = co_await release(std::move(child));
    if (result) {
      result = settled ? std::move(released) : std::move(settled);
    }
  }
}

io::Task<Result<void>> Graph::detach(std::unique_ptr<Edge> root) {
  std::shared_ptr<Node> node = root->child_;
  root.reset();
  Result<void> settled = co_await settle(node);
  Result<void> released = co_await release(std::move(node));
  co_return settled ? released : settled;
}

io::Task<void> Graph::drain_begin() {
  if (drains_++ == 0) {
    for (Node* node : nodes_) {
      if (node->driver_ != nullptr) {
        node->driver_->drain_begins();
      }
    }
  }
  for (;;) {
    const auto busy =
        std::ranges::find_if(nodes_, [](const Node* node) { return node->in_flight_ != 0; });
    if (busy == nodes_.end()) {
      co_return;
    }
    const std::shared_ptr<Node> node = (*busy)->shared_from_this();
    co_await io::WaitIn(node->in_flight_waiters_);
  }
}

io::Task<Graph::Alone> Graph::alone() {
  auto guard = co_await changes_.lock();
  co_await drain_begin();
  co_return Alone(*this, std::move(guard));
}

void Graph::drain_end() {
  assert(drains_ > 0);
  if (--drains_ == 0) {
    ++drain_;
    drain_waiters_.wake_all();
  }
}

bool Graph::born_in_drain(const Node& node) const {
  return draining() && node.born_ == drain_ &&
         std::ranges::all_of(node.children(),
                             [this](const auto& edge) { return born_in_drain(edge->node()); });
}

void Graph::report_length_change() const {
  for (LengthListener* const listener : length_listeners_) {
    listener->on_length_change();
  }
}

void Graph::refresh_names() {
  std::unordered_set<const Node*> done;
  const auto refresh = [&done](const auto& self, Node& node) -> void {
    if (!done.insert(&node).second || node.driver_ == nullptr || node.closing_) {
      return;
    }
    for (const auto& edge : node.children()) {
      self(self, edge->node());
    }
    if (node.info().kind != DriverInfo::Kind::kProtocol || !node.children().empty()) {
      node.set_filename({});
      name_node(node, node.opened_with(), node.chain_wanted_);
    }
  };
  for (Node* node : nodes_) {
    refresh(refresh, *node);
  }
}

void Graph::report_warning(std::string_view message, std::string_view advice) const {
  if (on_warning_) {
    on_warning_(message, advice);
  } else {
    fmt::print(stderr, "warning: {}\n{}\n", message, advice);
  }
}

void Graph::report_failure(std::string_view message) const {
  if (on_failure_) {
    on_failure_(message);
  } else {
    fmt::print(stderr, "{}\n", message);
  }
}

io::Task<Result<void>> Graph::close_all() {
  Result<void> result;
  while (!monitor_nodes_.empty()) {
    // The youngest nodes first: they may use older ones.
    const auto idle = std::find_if(monitor_nodes_.rbegin(), monitor_nodes_.rend(),
                                   [](const auto& node) { return node->parents().empty(); });
    assert(idle != monitor_nodes_.rend() && "a node is still in use at the end");
    std::shared_ptr<Node> node = *idle;
    std::erase(monitor_nodes_, node);
    Result<void> released = co_await release(std::move(node));
    if (!released && result) {
      result = std::move(released);
    }
  }
  co_return result;
}

}  // namespace cairn::block
