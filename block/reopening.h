// Reopening: a set of nodes on their way to other options, with the edit of the graph that goes
// with it. How it goes is in reopen.h; this is the part that knows nothing of what options mean.
//
// Invariants
// - Whenever a node's driver is replaced, no request is in flight at the node, and the old driver
//   holds nothing that is not on disk.
// - The old drivers are kept until nothing can fail any more; a failure puts them back.
// - The nodes are held to the end, whoever lets go of them meanwhile.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/dirty_bitmap.h"
#include "block/graph.h"
#include "block/graph_edit.h"
#include "block/node.h"
#include "io/task.h"
#include "schema/types_block_options.h"

namespace cairn::block {

class Reopening {
 public:
  enum class NewDriver : uint8_t {
    kNever,       // the old one goes on, whatever it is told
    kWhenNeeded,  // when it can not go on with the new options
    kNewContent,  // the same; and what is known of the image, bitmaps included, is read anew
  };
  struct Item {
    std::shared_ptr<Node> node;
    schema::BlockdevOptions options;  // what it is to be opened with
    NodeOptions common;
    NewDriver driver = NewDriver::kWhenNeeded;
    bool takes_bitmaps = false;  // those in the image are not the node's any more
  };

  explicit Reopening(Graph& graph) : graph_(graph), edit_(graph) {}

  [[nodiscard]] Graph& graph() const { return graph_; }
  void add(Item item);
  // Edits that belong to it are made once the drivers have written out.
  struct ChildChange {
    Node* parent = nullptr;
    std::string name;
    std::shared_ptr<Node> child;  // null: none
    ChildRole role = ChildRole::kImage;
  };
  void add(ChildChange change) { child_changes_.push_back(std::move(change)); }

  // Once. A failure has changed nothing.
  [[nodiscard]] io::Task<Result<void>> run();

 private:
  using Bitmaps = std::vector<std::unique_ptr<DirtyBitmap>>;
  struct Step {
    Item item;
    std::unique_ptr<Edge> hold;
    NodeOptions before;
    std::string filename;
    bool adopted = false;
    std::unique_ptr<Driver> previous;  // another one has taken its place
    bool bitmaps_taken = false;
    Bitmaps bitmaps;
  };

  [[nodiscard]] std::vector<Step*> parents_first();
  [[nodiscard]] io::Task<Result<void>> run_held();
  [[nodiscard]] io::Task<Result<void>> quiesce();
  [[nodiscard]] static io::Task<Result<void>> settle_below(Node& node);
  [[nodiscard]] static Result<void> check_bitmaps(const Step& step);
  [[nodiscard]] Result<void> apply();
  [[nodiscard]] Result<void> change_child(const ChildChange& change);
  [[nodiscard]] io::Task<Result<void>> make_drivers();
  [[nodiscard]] io::Task<Result<void>> make_driver(Step& step);
  [[nodiscard]] io::Task<void> take_back();
  [[nodiscard]] io::Task<Result<void>> finish();
  [[nodiscard]] io::Task<std::unique_ptr<Driver>> install(Node& node,
                                                          std::unique_ptr<Driver> driver);
  static Bitmaps take_bitmaps(Node& node);

  Graph& graph_;
  GraphEdit edit_;
  std::vector<Step> steps_;
  std::vector<ChildChange> child_changes_;
};

}  // namespace cairn::block
