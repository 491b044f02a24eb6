// Graph: owner of nodes and of every change to how they are connected.
//
// Changes are transactions: they are computed, checked against the permission model, then applied
// or dropped as a whole, while requests from outside are drained. All on the graph's home reactor.
#pragma once

#include <cerrno>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "block/corruption.h"
#include "block/driver_table.h"
#include "block/node.h"
#include "block/open_policy.h"
#include "block/permissions.h"
#include "block/vote_report.h"
#include "io/mutex.h"
#include "io/task.h"
#include "io/waiter.h"

namespace cairn::io {
class Throttle;
class TlsCredentials;
}  // namespace cairn::io

namespace cairn::schema {
struct BlockdevOptions;
struct BlockdevRef;
}  // namespace cairn::schema

namespace cairn::block {

// The images on the way from the one that a user named to the one being opened, the nearest first:
// each named the next one as its backing file. Lives on the stack of the open in progress.
struct OpenTrail {
  const OpenTrail* up = nullptr;
  std::string filename;
};

// How an image is opened beyond what its options say.
struct OpenFlags {
  bool read_only = false;  // default for nodes whose options do not say
  bool auto_read_only = false;
  bool no_backing = false;  // do not open what the header names as backing file
  bool no_io = false;       // only the metadata is wanted; data files need not be there
  bool force_share = false;
  bool check_only = false;  // open even what is marked corrupt or dirty; no repair at open
  bool discard_unmap = false;
  bool cache_direct = false;
  bool no_flush = false;
  // Which of the backing files is opened for writing, as a commit into it needs: 1 is the one that
  // the image itself names. 0: none.
  unsigned writable_backing = 0;
  bool inactive = false;  // default for nodes whose options do not say
  bool probed = false;    // nobody named the format: it was guessed from the image's content
  const OpenTrail* trail = nullptr;
};

class LengthListener;

class Graph {
 public:
  explicit Graph(const DriverTable& drivers) : drivers_(drivers) {}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  // close_all() first.
  ~Graph();

  [[nodiscard]] const DriverTable& drivers() const { return drivers_; }
  // Of every image that is opened from now on; what the field does by default.
  void set_open_policy(OpenPolicy policy) { policy_ = std::move(policy); }
  [[nodiscard]] const OpenPolicy& open_policy() const { return policy_; }

  // Opens a node and, recursively, its children. Nobody holds the node yet: attach() to it, or
  // give it back with release().
  [[nodiscard]] io::Task<Result<std::shared_ptr<Node>>> open(const schema::BlockdevOptions& options,
                                                             OpenFlags flags = {});

  // Opens what a command line or an image header names by a filename: a path, "PROTOCOL:…", or
  // "json:{…}". An empty `format` is probed. The node is called `name`, unless that is empty.
  [[nodiscard]] io::Task<Result<std::shared_ptr<Node>>> open_filename(std::string filename,
                                                                      std::string format,
                                                                      OpenFlags flags = {},
                                                                      std::string name = {});

  // Gives a node back; closes it, and what only it held, when nobody else holds it. The error is
  // that of a failed final write-out.
  [[nodiscard]] io::Task<Result<void>> release(std::shared_ptr<Node> node);

  // blockdev-add and blockdev-del: nodes that the monitor holds by name.
  [[nodiscard]] io::Task<Result<void>> add_monitor_node(const schema::BlockdevOptions& options);
  [[nodiscard]] io::Task<Result<void>> remove_monitor_node(std::string name);

  // By node name; null when there is none, or it is still being opened.
  [[nodiscard]] std::shared_ptr<Node> find(std::string_view name) const;
  // All nodes, in the order they were made.
  [[nodiscard]] const std::vector<Node*>& nodes() const { return nodes_; }
  [[nodiscard]] const std::vector<std::shared_ptr<Node>>& monitor_nodes() const {
    return monitor_nodes_;
  }

  // A root edge: how exports, jobs and tools use a node. `user` names the holder in messages
  // ("export 'x'"). Fails with EPERM when the permissions conflict with other users of the node.
  [[nodiscard]] Result<std::unique_ptr<Edge>> attach(std::shared_ptr<Node> node, std::string user,
                                                     Permissions permissions);
  // A root edge that asks for nothing, and keeps the node from being closed; detach() it. It stays
  // with its node when another one is put above that.
  [[nodiscard]] static std::unique_ptr<Edge> hold(std::shared_ptr<Node> node);
  [[nodiscard]] Result<void> set_permissions(Edge& root, Permissions permissions);
  // Waits for the edge's requests, drops it, and releases its node.
  [[nodiscard]] io::Task<Result<void>> detach(std::unique_ptr<Edge> root);

  // Between begin and end no request from a root edge is in flight or starts.
  [[nodiscard]] io::Task<void> drain_begin();
  void drain_end();
  [[nodiscard]] bool draining() const { return drains_ > 0; }
  // Requests of this root edge are made by whoever holds the drain, and do not wait for its end.
  // The same holds for edges to nodes that were opened during the drain, with all that is below
  // them, until the graph is edited.
  void let_through(Edge& root) const { root.pass_ = drain_; }
  [[nodiscard]] bool has_pass(const Edge& root) const { return draining() && root.pass_ == drain_; }
  // Requests of root edges that wait for the end of the drain.
  [[nodiscard]] io::WaiterList& drain_waiters() { return drain_waiters_; }

  // Who is to hear of damaged images; nobody by default.
  void set_on_corruption(std::function<void(const Corruption&)> callback) {
    on_corruption_ = std::move(callback);
  }
  // For drivers: an image turned out to be damaged.
  void report_corruption(const Corruption& found) const {
    if (on_corruption_) {
      on_corruption_(found);
    }
  }

  // Who is to hear that a node was written to beyond its threshold, by how many bytes; nobody by
  // default.
  using ThresholdCallback =
      std::function<void(const Node& node, uint64_t threshold, uint64_t exceeded)>;
  void set_on_write_threshold(ThresholdCallback callback) {
    on_write_threshold_ = std::move(callback);
  }
  void report_write_threshold(const Node& node, uint64_t threshold, uint64_t exceeded) const {
    if (on_write_threshold_) {
      on_write_threshold_(node, threshold, exceeded);
    }
  }

  // Who is to hear of what is odd about an image that is opened all the same, and what to do about
  // it; standard error by default.
  using WarningCallback = std::function<void(std::string_view message, std::string_view advice)>;
  void set_on_warning(WarningCallback callback) { on_warning_ = std::move(callback); }
  void report_warning(std::string_view message, std::string_view advice) const;
  // The same for failures that nobody gets as an outcome, or whose errno does not tell why.
  using FailureCallback = std::function<void(std::string_view message)>;
  void set_on_failure(FailureCallback callback) { on_failure_ = std::move(callback); }
  void report_failure(std::string_view message) const;

  // Who is to hear of the votes of quorum nodes; nobody by default.
  using VoteCallback = std::function<void(const VoteReport&)>;
  void set_on_vote(VoteCallback callback) { on_vote_ = std::move(callback); }
  void report_vote(const VoteReport& report) const {
    if (on_vote_) {
      on_vote_(report);
    }
  }

  // Who is to hear of changed lengths. A listener is removed before it is destroyed.
  void add_length_listener(LengthListener& listener) { length_listeners_.push_back(&listener); }
  void remove_length_listener(LengthListener& listener) {
    std::erase(length_listeners_, &listener);
  }
  void report_length_change() const;

  // Who knows the credentials that options name, for clients of TLS; nobody by default.
  using Credentials = std::shared_ptr<const io::TlsCredentials>;
  using CredentialsLookup = std::function<Result<Credentials>(const std::string& name)>;
  void set_credentials_lookup(CredentialsLookup lookup) { credentials_ = std::move(lookup); }
  [[nodiscard]] Result<Credentials> find_credentials(const std::string& name) const {
    return credentials_ ? credentials_(name)
                        : fail(ENOENT, "No TLS credentials with id '{}'", name);
  }

  // Who knows the limits that options name, for filters; nobody by default. Null: there are none.
  using ThrottleLookup = std::function<std::shared_ptr<io::Throttle>(const std::string& name)>;
  void set_throttle_lookup(ThrottleLookup lookup) { throttles_ = std::move(lookup); }
  [[nodiscard]] std::shared_ptr<io::Throttle> find_throttle(const std::string& name) const {
    return throttles_ ? throttles_(name) : nullptr;
  }

  // Who knows the secrets that options name, for encrypted images; nobody by default.
  using SecretLookup = std::function<Result<std::string>(const std::string& name)>;
  void set_secret_lookup(SecretLookup lookup) { secrets_ = std::move(lookup); }
  [[nodiscard]] Result<std::string> find_secret(const std::string& name) const {
    return secrets_ ? secrets_(name) : fail(ENOENT, "No secret with id '{}'", name);
  }

  // Held while the graph is edited, or a node is changed as a whole (resized, reopened): one at a
  // time.
  [[nodiscard]] io::AsyncMutex& changes() { return changes_; }

  // While it lives nobody else changes the graph, and no request of a root edge is in flight.
  class [[nodiscard]] Alone {
   public:
    Alone(Graph& graph, io::AsyncMutex::Guard guard) : graph_(&graph), guard_(std::move(guard)) {}
    Alone(Alone&& other) noexcept
        : graph_(std::exchange(other.graph_, nullptr)), guard_(std::move(other.guard_)) {}
    Alone& operator=(Alone&&) = delete;
    ~Alone() {
      if (graph_ != nullptr) {
        graph_->drain_end();
      }
    }

   private:
    Graph* graph_;
    io::AsyncMutex::Guard guard_;
  };
  [[nodiscard]] io::Task<Alone> alone();

  // Closes every node, parents first, and reports the first error.
  [[nodiscard]] io::Task<Result<void>> close_all();

 private:
  friend class OpenContext;
  friend class Edge;
  friend class GraphEdit;
  friend class Node;
  friend class Reopening;

  struct Proposal;

  // Computes the permissions of every edge to `top` and what lies below it anew (null: of all
  // edges), with `root` (may be null) as proposed, and applies them as a whole or not at all.
  [[nodiscard]] Result<void> refresh_permissions(Node* top, const Edge* root = nullptr,
                                                 Permissions proposed = {});
  [[nodiscard]] Result<void> propose(Node& node, Proposal& proposal) const;
  // For changes that only take edges to `top` (null: any edges) away, which can not fail.
  void loosen_permissions(Node* top);
  // The same, and nobody below `top` (null: at all) keeps what it used for others.
  [[nodiscard]] io::Task<Result<void>> settle(std::shared_ptr<Node> top);
  // Names of images follow from those of the nodes below them.
  void refresh_names();
  [[nodiscard]] Result<Edge*> connect(Node& parent, std::string name, std::shared_ptr<Node> child,
                                      ChildRole role);
  // The format of what `file` holds.
  [[nodiscard]] io::Task<Result<const DriverInfo*>> probe(std::shared_ptr<Node> file);
  [[nodiscard]] bool born_in_drain(const Node& node) const;
  [[nodiscard]] bool held_by_monitor(const Node& node) const;
  [[nodiscard]] std::string generate_name();
  [[nodiscard]] Result<void> check_name(std::string_view name) const;
  [[nodiscard]] io::Task<void> drop_children(Node& node, Result<void>& result);

  const DriverTable& drivers_;
  OpenPolicy policy_;
  std::vector<Node*> nodes_;
  std::vector<std::shared_ptr<Node>> monitor_nodes_;
  uint64_t generated_names_ = 0;
  int drains_ = 0;
  uint64_t drain_ = 1;  // counts drains and, within them, edits
  io::WaiterList drain_waiters_;
  io::AsyncMutex changes_;
  std::vector<GraphEdit*> edits_;  // that are not at their end
  std::function<void(const Corruption&)> on_corruption_;
  ThresholdCallback on_write_threshold_;
  WarningCallback on_warning_;
  FailureCallback on_failure_;
  VoteCallback on_vote_;
  std::vector<LengthListener*> length_listeners_;
  CredentialsLookup credentials_;
  ThrottleLookup throttles_;
  SecretLookup secrets_;
};

// What a driver's open() works with: attaching children and asking how the node is opened.
class OpenContext {
 public:
  // `reopening`: the children are those that the node has already, and so are its bitmaps.
  OpenContext(Graph& graph, Node& node, OpenFlags flags, bool reopening = false);

  [[nodiscard]] Graph& graph() const { return graph_; }
  [[nodiscard]] Node& node() const { return node_; }
  [[nodiscard]] const OpenFlags& flags() const { return flags_; }
  // Its image may be written to from now on.
  [[nodiscard]] bool writable() const;
  [[nodiscard]] bool reopening() const { return reopening_; }
  // The name of the image's own file; empty before that is attached.
  [[nodiscard]] std::string image_filename() const;
  // For auto-read-only: the image can only be read, and that is good enough.
  void set_read_only();

  // Opens (or finds, when `ref` is a name) the child `name` and attaches it. The edge lives as long
  // as the node; when the open fails later, the graph drops it again.
  [[nodiscard]] io::Task<Result<Edge*>> open_child(std::string name, const schema::BlockdevRef& ref,
                                                   ChildRole role);

  // Attaches a backing child that the image itself names, unless flags or policy forbid it (then
  // null without error, or an error that says so). Relative names start at this image's directory.
  [[nodiscard]] io::Task<Result<Edge*>> open_implicit_backing(std::string filename,
                                                              std::string format);
  // The same for the file that the image names for the guest's data; the child is "data-file". The
  // name is a path and nothing else: an image must not choose a protocol.
  [[nodiscard]] io::Task<Result<Edge*>> open_implicit_data(std::string filename);
  // The same for one of several files that the image is divided into.
  [[nodiscard]] io::Task<Result<Edge*>> open_implicit_extent(std::string child,
                                                             std::string filename, ChildRole role);

 private:
  [[nodiscard]] io::Task<Result<Edge*>> open_implicit_file(std::string child, std::string_view what,
                                                           std::string filename, ChildRole role);
  [[nodiscard]] Result<std::string> implicit_path(std::string_view what,
                                                  const std::string& filename) const;
  [[nodiscard]] OpenFlags child_flags(ChildRole role) const;

  Graph& graph_;
  Node& node_;
  OpenFlags flags_;
  const bool reopening_;
};

// What options say for a node when `flags` are what they leave open.
[[nodiscard]] NodeOptions node_options(const schema::BlockdevOptions& options,
                                       const OpenFlags& flags);
// EINVAL when they do not go together.
[[nodiscard]] Result<void> check_options(const NodeOptions& options);
// What is left open to a child that its parent's options describe.
[[nodiscard]] OpenFlags child_flags(const NodeOptions& parent, ChildRole role);

}  // namespace cairn::block
