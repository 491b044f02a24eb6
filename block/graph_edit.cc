#include "block/graph_edit.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <unordered_set>
#include <utility>

#include "schema/types_block_options.h"

namespace cairn::block {

namespace {

Result<void> check_cycle(const Node& parent, std::string_view name, const Node& child) {
  if (stands_on(child, parent)) {
    return fail(EINVAL, "Making '{}' a {} child of '{}' would create a cycle", child.name(), name,
                parent.name());
  }
  return {};
}

// An edge that keeps a node and asks for nothing that another node could do in its place: such
// edges stay, whatever is put above. Those of jobs have names of their own.
bool is_job_hold(const Edge& edge) { return edge.parent() == nullptr && edge.name() != "root"; }

// Where something was in a list that may have changed since.
template <typename List>
auto place_in(List& list, std::ptrdiff_t index) {
  return list.begin() + std::min<std::ptrdiff_t>(index, std::ssize(list));
}

}  // namespace

bool stands_on(const Node& above, const Node& below) {
  std::vector<const Node*> ways{&above};
  std::unordered_set<const Node*> seen;
  while (!ways.empty()) {
    const Node* node = ways.back();
    ways.pop_back();
    if (node == &below) {
      return true;
    }
    if (seen.insert(node).second) {
      for (const auto& edge : node->children()) {
        ways.push_back(&edge->node());
      }
    }
  }
  return false;
}

Result<void> GraphEdit::enter(Graph& graph, Node& node) {
  if (auto ok = check_options(node.options()); !ok) {
    return ok;
  }
  if (node.opened_with().node_name) {
    if (auto named = graph.check_name(node.name()); !named) {
      return named;
    }
  }
  graph.nodes_.push_back(&node);
  return {};
}

GraphEdit::GraphEdit(Graph& graph) : graph_(graph) { graph_.edits_.push_back(this); }

GraphEdit::~GraphEdit() {
  abort();
  std::erase(graph_.edits_, this);
}

void GraphEdit::forget(const Edge& edge) {
  std::erase_if(undo_, [&edge](const Undo& undo) { return undo.edge == &edge; });
}

// Moves the edge, and sees to it that it can be moved back to where it was among the users of its
// child.
void GraphEdit::connect(Edge& edge, std::shared_ptr<Node> child, bool owned) {
  std::shared_ptr<Node> old = edge.child_;
  const auto place = std::ranges::find(old->parents_, &edge);
  const auto index = place - old->parents_.begin();
  const bool was_owned = std::exchange(edge.owned_, owned);
  old->parents_.erase(place);
  edge.child_ = std::move(child);
  edge.child_->parents_.push_back(&edge);
  left_.push_back(old);
  undo_.push_back({&edge, [&edge, old = std::move(old), index, was_owned] {
                     std::erase(edge.child_->parents_, &edge);
                     edge.child_ = old;
                     old->parents_.insert(place_in(old->parents_, index), &edge);
                     edge.owned_ = was_owned;
                   }});
}

Result<void> GraphEdit::replace_child(Edge& edge, std::shared_ptr<Node> child) {
  if (edge.parent() != nullptr) {
    if (auto free = check_cycle(*edge.parent(), edge.name(), *child); !free) {
      return free;
    }
  }
  connect(edge, std::move(child), false);
  return {};
}

Result<void> GraphEdit::add_child(Node& parent, std::string name, std::shared_ptr<Node> child,
                                  ChildRole role) {
  if (auto free = check_cycle(parent, name, *child); !free) {
    return free;
  }
  parent.children_.push_back(
      std::make_unique<Edge>(std::move(name), &parent, std::move(child), role, std::string()));
  Edge* const edge = parent.children_.back().get();
  const bool chain_wanted = parent.chain_wanted_;
  if (role == ChildRole::kBacking) {
    parent.backing_ = edge;
    parent.chain_wanted_ = true;
  }
  undo_.push_back({edge, [&parent, edge, chain_wanted] {
                     parent.chain_wanted_ = chain_wanted;
                     if (parent.backing_ == edge) {
                       parent.backing_ = nullptr;
                     }
                     std::erase_if(parent.children_,
                                   [edge](const auto& other) { return other.get() == edge; });
                   }});
  return {};
}

void GraphEdit::remove_child(Edge& edge) {
  Node& parent = *edge.parent();
  const auto place = std::ranges::find(parent.children_, &edge, &std::unique_ptr<Edge>::get);
  const auto index = place - parent.children_.begin();
  // Copies of the function share it.
  const auto removed = std::make_shared<std::unique_ptr<Edge>>(std::move(*place));
  parent.children_.erase(place);
  const bool backing = parent.backing_ == &edge;
  if (backing) {
    parent.backing_ = nullptr;
  }
  const std::shared_ptr<Node> child = edge.child_;
  const auto user = std::ranges::find(child->parents_, &edge);
  const auto user_index = user - child->parents_.begin();
  child->parents_.erase(user);
  left_.push_back(child);
  undo_.push_back({nullptr, [&parent, &edge, child, removed, index, user_index, backing] {
                     child->parents_.insert(place_in(child->parents_, user_index), &edge);
                     parent.children_.insert(place_in(parent.children_, index),
                                             std::move(*removed));
                     if (backing) {
                       parent.backing_ = &edge;
                     }
                   }});
}

void GraphEdit::move_users(Node& from, const std::shared_ptr<Node>& to, bool for_good) {
  // Connecting them changes the list.
  const std::vector<Edge*> users(from.parents().begin(), from.parents().end());
  for (Edge* user : users) {
    const bool stays = user->stays_ || is_job_hold(*user) ||
                       (user->parent() != nullptr && stands_on(*to, *user->parent()));
    if (!stays && user->parent() != to.get()) {
      connect(*user, to, !for_good && user->owned_);
    }
  }
}

void GraphEdit::insert_above(const std::shared_ptr<Node>& below, std::shared_ptr<Node> above) {
  move_users(*below, above, true);
}

Result<std::shared_ptr<Node>> GraphEdit::insert_filter(const std::shared_ptr<Node>& below,
                                                       NewFilter wanted) {
  if (wanted.name) {
    if (auto good = graph_.check_name(*wanted.name); !good) {
      return pass(good);
    }
  }
  NodeOptions options = below->options();
  options.detect_zeroes = NodeOptions::DetectZeroes::kOff;
  options.discard_unmap = true;
  auto filter = std::make_shared<Node>(graph_, wanted.name ? *wanted.name : graph_.generate_name(),
                                       *wanted.info, options);
  // Of these nothing shows: its driver and its child say what it is.
  schema::BlockdevOptions nothing;
  nothing.driver = schema::BlockdevDriver::kNullCo;
  nothing.branch = schema::BlockdevOptionsNull();
  filter->opened_with_ = std::make_shared<const schema::BlockdevOptions>(std::move(nothing));
  filter->born_ = graph_.draining() ? graph_.drain_ : 0;
  graph_.nodes_.push_back(filter.get());
  undo_.push_back({nullptr, [graph = &graph_, filter] {
                     filter->closing_ = true;
                     std::erase(graph->nodes_, filter.get());
                   }});
  auto added = add_child(*filter, wanted.edge, below, ChildRole::kFiltered);
  if (!added) {
    return pass(added);
  }
  filter->set_driver(wanted.make(*filter->children_.back()));
  move_users(*below, filter, false);
  return filter;
}

void GraphEdit::bypass_filter(const std::shared_ptr<Node>& filter) {
  if (filter->children_.empty()) {
    return;  // it was closed when its last user left
  }
  left_.push_back(filter);
  move_users(*filter, filter->children_.front()->child_, false);
}

void GraphEdit::change_options(Node& node, const NodeOptions& options) {
  undo_.push_back({nullptr, [&node, old = node.options_] { node.options_ = old; }});
  node.becomes_read_only_ = options.read_only && !node.options_.read_only;
  node.options_ = options;
  changed_.push_back(&node);
}

void GraphEdit::settle_options() {
  for (Node* node : std::exchange(changed_, {})) {
    node->becomes_read_only_ = false;
  }
}

Result<void> GraphEdit::prepare() {
  auto refreshed = graph_.refresh_permissions(nullptr);
  if (!refreshed) {
    abort();
    return refreshed;
  }
  ++graph_.drain_;  // nodes that were new may have got users, or something below them
  prepared_ = true;
  return {};
}

io::Task<Result<void>> GraphEdit::commit() {
  std::exchange(undo_, {}).clear();  // edges that were removed go, and look here for traces
  settle_options();
  prepared_ = false;
  graph_.refresh_names();
  for (Node* node : graph_.nodes_) {
    if (node->driver_ != nullptr) {
      node->limits_ = node->driver_->limits();  // a filter's may follow from what is below it now
    }
  }
  graph_.report_length_change();
  Result<void> result = co_await graph_.settle(nullptr);
  for (std::shared_ptr<Node>& node : std::exchange(left_, {})) {
    Result<void> released = co_await graph_.release(std::move(node));
    if (!released && result) {
      result = std::move(released);
    }
  }
  co_return result;
}

void GraphEdit::abort() {
  while (!undo_.empty()) {
    const Undo last = std::move(undo_.back());
    undo_.pop_back();
    last.action();
  }
  left_.clear();
  settle_options();
  if (std::exchange(prepared_, false)) {
    graph_.loosen_permissions(nullptr);
  }
}

}  // namespace cairn::block
