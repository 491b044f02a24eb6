// GraphEdit: a change of the graph, made of any number of edits, that happens as a whole or not at
// all.
//
// Life: edits; then prepare(), which computes the permissions of the whole graph anew and has the
// leaves agree; then exactly one of commit() and abort(). The destructor aborts what is not
// settled.
//
// Invariants
// - All of it happens inside Graph::Alone: no request of a root edge is in flight, and nobody else
//   changes the graph.
// - An edit shows at once in the nodes; nobody's permissions change before prepare() has succeeded.
//   A prepare() that fails leaves edges, options and permissions as they were before the first
//   edit.
// - No node is ever above itself: an edit that would make it so fails, and changes nothing.
// - An edge whose child is replaced stays the same object, since drivers refer to it. One that is
//   removed lives on, pointing nowhere that counts, until the edit is settled.
// - Nodes that lose their last user are held until commit(), which gives them back.
// - An edge that goes away meanwhile, with whoever held it, is forgotten.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/graph.h"
#include "block/node.h"
#include "io/task.h"

namespace cairn::block {

// A filter that somebody puts into the graph for purposes of its own, such as a job.
struct NewFilter {
  const DriverInfo* info = nullptr;  // outlives the node; need not be in a driver table
  std::optional<std::string> name;   // of the node; generated unless given
  std::string edge = "file";         // the name of the child
  // In front of what is told of a node that can not be had.
  std::string error_context = "Could not create node: ";
  // Makes the driver on the edge to the child.
  std::function<std::unique_ptr<Driver>(Edge& child)> make;
};

class GraphEdit {
 public:
  // Gives a node that is being opened its place among the nodes and its name, both of which may be
  // refused it. Its child `file` comes before it, and all others after it. This is no part of an
  // edit.
  [[nodiscard]] static Result<void> enter(Graph& graph, Node& node);

  explicit GraphEdit(Graph& graph);
  GraphEdit(const GraphEdit&) = delete;
  GraphEdit& operator=(const GraphEdit&) = delete;
  ~GraphEdit();

  // Makes `edge` point to `child`, as one that its parent refers to and did not make. EINVAL: the
  // child is the parent, or above it.
  [[nodiscard]] Result<void> replace_child(Edge& edge, std::shared_ptr<Node> child);
  // Gives `parent` one more child; the name must be free. EINVAL as above.
  [[nodiscard]] Result<void> add_child(Node& parent, std::string name, std::shared_ptr<Node> child,
                                       ChildRole role);
  // Takes a child away from its parent. Not for root edges.
  void remove_child(Edge& edge);
  // Puts `above`, which has `below` among its children, between `below` and its users: all of them
  // point to `above` afterwards, but for those that it stands on itself, and holds.
  void insert_above(const std::shared_ptr<Node>& below, std::shared_ptr<Node> above);
  // Makes a node that no options describe, with `below` as its only child, and puts it there.
  // Nobody holds it but its new users: whoever is to keep it attaches to it. EINVAL for a name that
  // can not be had.
  [[nodiscard]] Result<std::shared_ptr<Node>> insert_filter(const std::shared_ptr<Node>& below,
                                                            NewFilter wanted);
  // Has the users of a filter use the node below it, but for holds. The filter goes with its last
  // user.
  void bypass_filter(const std::shared_ptr<Node>& filter);
  void change_options(Node& node, const NodeOptions& options);

  [[nodiscard]] Result<void> prepare();
  // The error is that of closing a node that nobody uses any more; the change holds all the same.
  [[nodiscard]] io::Task<Result<void>> commit();
  // Also after prepare(), as long as it is not committed.
  void abort();

 private:
  friend class Edge;

  struct Undo {
    const Edge* edge = nullptr;  // whose going away makes it void
    std::function<void()> action;
  };

  void connect(Edge& edge, std::shared_ptr<Node> child, bool owned);
  void settle_options();
  void forget(const Edge& edge);
  // Those of `from`, as insert_above() says; `for_good`: their parents refer to `to` from now on.
  void move_users(Node& from, const std::shared_ptr<Node>& to, bool for_good);

  Graph& graph_;
  std::vector<Undo> undo_;
  std::vector<std::shared_ptr<Node>> left_;
  std::vector<Node*> changed_;  // options
  bool prepared_ = false;
};

// `below` is `above`, or one of the nodes that it stands on.
[[nodiscard]] bool stands_on(const Node& above, const Node& below);

}  // namespace cairn::block
