// Node and Edge: the graph's vertices with their choke point, and the arrows between them.
//
// Every request to a node, from anywhere, enters through an Edge: a driver's edge to its child, or
// a root edge that an export, a job or a tool holds. The choke point behind it checks range,
// permission and flags, holds the request in flight (so that drain can wait for it) and pinned (so
// that space it translated to is not reused), splits, aligns and serialises, marks what observes
// the node, accounts, and sees to it that a failure has an errno.
//
// Ownership: nodes are shared (std::shared_ptr<Node>) by the edges that point to them and by the
// graph's table of named nodes. A node owns its driver and the edges to its children. Edges stay
// where they are in memory while they exist.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "block/driver.h"
#include "block/epoch.h"
#include "block/permissions.h"
#include "block/statistics.h"
#include "block/unit_cache.h"
#include "io/event.h"
#include "io/iovector.h"
#include "io/range_lock.h"
#include "io/task.h"
#include "io/waiter.h"

namespace cairn::schema {
struct BlockdevOptions;
}

namespace cairn::block {

class DirtyBitmap;
class DirtyBitmaps;
class Graph;
class GraphEdit;
class Node;

// Where a request has its answer from: status() along a chain.
struct ChainStatus {
  BlockStatus status;
  // 0 for the node that was asked, 1 for its backing node, …
  int depth = 0;
};

class Edge {
 public:
  // Edges are made by Graph. `parent` is null for a root edge, whose holder `user` describes in
  // messages; empty: "an unnamed block device".
  Edge(std::string name, Node* parent, std::shared_ptr<Node> child, ChildRole role,
       std::string user);
  Edge(const Edge&) = delete;
  Edge& operator=(const Edge&) = delete;
  ~Edge();

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] Node& node() const { return *child_; }
  [[nodiscard]] const std::shared_ptr<Node>& shared_node() const { return child_; }
  [[nodiscard]] Node* parent() const { return parent_; }
  [[nodiscard]] ChildRole role() const { return role_; }
  [[nodiscard]] Permissions permissions() const { return permissions_; }
  // The child was made for this edge: by what the parent's options say of it, or because the image
  // names it. What the parent is reopened with counts for such a child, too.
  [[nodiscard]] bool owned() const { return owned_; }
  // Of a root edge: its holder can live with a node that is inactive, through which nothing goes.
  void allow_inactive() { allows_inactive_ = true; }
  [[nodiscard]] bool allows_inactive() const { return allows_inactive_; }
  [[nodiscard]] uint64_t length() const;
  // "node 'q' (uses node 'f' as 'file' child)": for messages about conflicts.
  [[nodiscard]] std::string describe() const;

  // Requests. Offsets and lengths are in bytes and need no alignment; zero-length requests succeed.
  // Beyond the end of the node: EIO ("beyond the end"), except reads through a backing edge, which
  // see zeroes there. Memory behind `data` must stay valid until the task is done.
  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data);
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             WriteFlags flags = {});
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    ZeroFlags flags = {});
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length);
  [[nodiscard]] io::Task<Result<void>> flush();
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length, ResizeOptions options = {});

  // Snapshots inside the image; see Driver. Needs the write permission, applying the resize
  // permission as well.
  [[nodiscard]] Result<std::vector<Snapshot>> snapshots() const;
  [[nodiscard]] io::Task<Result<void>> create_snapshot(Snapshot snapshot);
  [[nodiscard]] io::Task<Result<void>> apply_snapshot(std::string id);
  [[nodiscard]] io::Task<Result<void>> delete_snapshot(std::string id);
  // EINVAL when the node is not read-only.
  [[nodiscard]] io::Task<Result<void>> show_snapshot(std::string id);

  // Changes of the image as a whole; see Driver. They need the write permission, amending the
  // resize permission as well. Compacting keeps everybody else waiting until it is done.
  [[nodiscard]] io::Task<Result<void>> change_backing(std::string filename, std::string format);
  [[nodiscard]] io::Task<Result<void>> make_empty();
  [[nodiscard]] io::Task<Result<void>> amend(CreateOptions options);
  [[nodiscard]] io::Task<Result<void>> compact(CompactOptions options);

  // Carries a read out without touching memory when cached metadata says that the whole range reads
  // as zeroes; false when it does not say so, and read() has to. Never suspends.
  [[nodiscard]] bool try_read_zeroes(uint64_t offset, uint64_t length);

  // Convenience for metadata: one buffer.
  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, void* buffer, uint64_t length);
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, const void* buffer, uint64_t length,
                                             WriteFlags flags = {});

  // What this one node says of a range; never suspended writes, never data I/O.
  [[nodiscard]] io::Task<Result<BlockStatus>> status(uint64_t offset, uint64_t length);
  // The same along the backing chain: the layer that decides. `base`, when given, is the first
  // node that is not looked at any more.
  [[nodiscard]] io::Task<Result<ChainStatus>> chain_status(uint64_t offset, uint64_t length,
                                                           const Node* base = nullptr);

 private:
  friend class Engine;
  friend class Graph;
  friend class GraphEdit;
  friend class Node;
  friend class OpenContext;

  std::string name_;
  Node* parent_;
  std::shared_ptr<Node> child_;
  ChildRole role_;
  std::string user_;
  Permissions permissions_;
  Permissions wanted_;  // of a root edge: what its holder asked for, whatever it has now
  bool owned_ = false;
  bool stays_ = false;  // with its node, whatever is put above that: see Graph::hold()
  bool allows_inactive_ = false;
  uint64_t pass_ = 0;  // of a root edge: the drain that does not concern it; 0: none
};

// Options that every node has, whatever its driver.
struct NodeOptions {
  bool read_only = false;
  bool auto_read_only = false;
  bool discard_unmap = false;  // false: discards are accepted and ignored
  enum class DetectZeroes : uint8_t { kOff, kOn, kUnmap };
  DetectZeroes detect_zeroes = DetectZeroes::kOff;
  bool force_share = false;
  bool cache_direct = false;
  bool no_flush = false;  // flush requests succeed without doing anything
  // False: the image is another program's to use, until the node is made active again. Requests
  // fail, nothing is locked, and what the driver knows of the image may be out of date.
  bool active = true;

  bool operator==(const NodeOptions&) const = default;
};

class Node : public std::enable_shared_from_this<Node> {
 public:
  Node(Graph& graph, std::string name, const DriverInfo& info, NodeOptions options);
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  ~Node();

  [[nodiscard]] Graph& graph() const { return graph_; }
  // Given by the user or generated ("#block123").
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const DriverInfo& info() const { return info_; }
  [[nodiscard]] const NodeOptions& options() const { return options_; }
  [[nodiscard]] bool read_only() const { return options_.read_only; }
  [[nodiscard]] bool active() const { return options_.active; }
  // What it was opened with, or last reopened.
  [[nodiscard]] const schema::BlockdevOptions& opened_with() const { return *opened_with_; }
  [[nodiscard]] Driver& driver() const { return *driver_; }

  // Bytes, a multiple of 512: a tail shorter than a sector reads as filled up with zeroes.
  [[nodiscard]] uint64_t length() const;

  // Children by edge name; null when there is none.
  [[nodiscard]] Edge* child(std::string_view name) const;
  [[nodiscard]] const std::vector<std::unique_ptr<Edge>>& children() const { return children_; }
  // The node that answers for holes: the "backing" child, or a filter's filtered child.
  [[nodiscard]] Edge* backing() const { return backing_; }
  [[nodiscard]] const std::vector<Edge*>& parents() const { return parents_; }

  // The image as a user would name it: a plain filename or a "json:{…}" description.
  [[nodiscard]] const std::string& filename() const { return filename_; }
  void set_filename(std::string filename) { filename_ = std::move(filename); }
  // The same in full: a JSON object with the driver, what decides on the content, and the children.
  [[nodiscard]] const std::string& description() const { return description_; }
  void set_description(std::string description) { description_ = std::move(description); }

  // Something looks at or limits single requests to this node (bitmap, threshold, filter rule,
  // job): the engine must not pass it over.
  [[nodiscard]] bool observed() const { return observers_ != 0; }
  // The driver's; null as a rule. See fault_point.h.
  [[nodiscard]] FaultListener* fault_listener() const { return fault_listener_; }

  // The dirty bitmaps of this node; null when it never had any. Adding and removing them is a
  // matter of memory alone: see dirty_bitmap_ops.h for what commands do.
  [[nodiscard]] DirtyBitmaps* bitmaps() const { return bitmaps_.get(); }
  DirtyBitmap& add_bitmap(std::unique_ptr<DirtyBitmap> bitmap);
  void remove_bitmap(std::string_view name);

  // The first write, zeroing or discard that goes beyond this offset is told to the graph, and sets
  // it back to 0: never.
  [[nodiscard]] uint64_t write_threshold() const { return write_threshold_; }
  void set_write_threshold(uint64_t offset);

  [[nodiscard]] EpochTracker& epochs() { return epochs_; }
  [[nodiscard]] const Statistics& statistics() const { return statistics_; }
  [[nodiscard]] const Limits& limits() const { return limits_; }
  [[nodiscard]] uint64_t requests_in_flight() const { return in_flight_; }

 private:
  friend class Edge;
  friend class Engine;
  friend class Graph;
  friend class GraphEdit;
  friend class OpenContext;
  friend class Reopening;
  friend class RequestScope;

  void set_driver(std::unique_ptr<Driver> driver);

  Graph& graph_;
  std::string name_;
  const DriverInfo& info_;
  NodeOptions options_;
  std::shared_ptr<const schema::BlockdevOptions> opened_with_;
  uint64_t born_ = 0;               // the drain during which it was opened; 0: none
  bool becomes_read_only_ = false;  // by an edit that is not settled
  bool probed_ = false;             // nobody named its format
  bool chain_wanted_ = true;        // it was opened with the backing file that its image names
  std::string filename_;
  std::string description_;
  std::unique_ptr<Driver> driver_;
  TranslatingDriver* translating_ = nullptr;
  RequestDriver* request_ = nullptr;
  FaultListener* fault_listener_ = nullptr;
  Limits limits_;
  std::vector<std::unique_ptr<Edge>> children_;
  Edge* backing_ = nullptr;
  std::vector<Edge*> parents_;

  EpochTracker epochs_;
  std::shared_ptr<io::Event> compressed_turn_;  // set when the last compressed write has its place
  EpochTracker in_place_;  // pinned by writes from their translation until they reached that place
  io::RangeLock allocations_;  // in allocation units: begin_write…end_write, zero, discard
  io::RangeLock alignment_;    // read-modify-write of unaligned requests, in bytes
  UnitCache units_;
  Statistics statistics_;
  std::unique_ptr<DirtyBitmaps> bitmaps_;
  uint64_t write_threshold_ = 0;
  uint64_t in_flight_ = 0;
  uint64_t writes_completed_ = 0;  // a flush is needed when it has moved since the last one
  uint64_t writes_flushed_ = 0;
  int observers_ = 0;
  bool closing_ = false;
  io::WaiterList in_flight_waiters_;  // who waits for in_flight_ to reach 0
};

}  // namespace cairn::block
