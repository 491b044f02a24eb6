// MirrorJob: copies a disk to a node and keeps the two alike, until the users of the disk go over
// to the node, or the copy is good as it is.
//
// A filter above the disk (filters/mirror_top.h) has every change marked, or made on both sides;
// the job copies what is marked, over and over. When little is left the job is ready. Its end, in
// prepare(), keeps all requests out for a moment, copies the rest, flushes, and moves the users:
// what was acknowledged before is on the target, and what comes after goes there.
//
// Committing the topmost image of a chain into a lower one is the same with another face.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "block/block_copy.h"
#include "block/graph_edit.h"
#include "filters/mirror_top.h"
#include "jobs/copy_job.h"
#include "schema/types_block_copy.h"

namespace cairn::jobs {

struct MirrorSettings {
  CopySettings copying;
  std::shared_ptr<block::Node> source;
  std::shared_ptr<block::Node> target;
  std::shared_ptr<block::Node> replaced;  // gives way to the target; null: the source
  // What the target gets as its backing node at the end, unless it has one; null: nothing.
  std::shared_ptr<block::Node> backing;
  // With top: where the chain that is not copied begins; null: the source's backing node.
  std::shared_ptr<block::Node> base;
  schema::MirrorSyncMode sync = schema::MirrorSyncMode::kFull;
  uint64_t granularity = 0;  // bytes, a power of two; 0: the usual
  uint64_t buffer = 0;       // most bytes that are copied at once; 0: the usual
  bool write_both = false;
  bool unmap = true;
  bool target_is_zero = false;
  const block::DriverInfo* filter_info = &filters::kMirrorTopDriver;
  std::optional<std::string> filter_name;
  // Of the edge that the copy is written through.
  block::Permissions on_target{.used = block::PermissionSet::kWrite,
                               .shared = block::PermissionSet::kWriteUnchanged};
};

class MirrorJob : public CopyJob {
 public:
  // Whoever asks is inside Graph::Alone, and adds the job to `list`, to which it was announced.
  // Nothing has changed after a failure.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Job>>> make(JobList& list,
                                                                   JobSettings settings,
                                                                   block::Graph& graph,
                                                                   MirrorSettings wanted);

  // begin() it.
  MirrorJob(JobSettings settings, block::Graph& graph, MirrorSettings wanted);

  // Puts the filter in and keeps the nodes. After a failure the job is of no use any more, and to
  // be withdrawn.
  [[nodiscard]] io::Task<Result<void>> begin(JobList& list);

  [[nodiscard]] bool actively_synced() const override;
  [[nodiscard]] Result<void> change(const schema::BlockJobChangeOptions& wanted) override;

 protected:
  [[nodiscard]] io::Task<Result<void>> run() override;
  [[nodiscard]] io::Task<Result<void>> prepare() override;
  [[nodiscard]] io::Task<void> abort() override;
  [[nodiscard]] io::Task<void> clean() override;
  [[nodiscard]] Result<void> complete() override;
  [[nodiscard]] bool end_softly() override;

  // Before anything is copied: what is wrong with the nodes.
  [[nodiscard]] virtual io::Task<Result<void>> check_nodes();
  // Adds to an edit, at the end, what has the users go over to the target.
  [[nodiscard]] virtual Result<void> move_users(block::GraphEdit& edit);

  [[nodiscard]] const MirrorSettings& wanted() const { return wanted_; }
  [[nodiscard]] const std::shared_ptr<block::Node>& filter() const { return filter_; }

 private:
  [[nodiscard]] io::Task<Result<void>> keep_nodes();
  void start_following();
  [[nodiscard]] io::Task<Result<void>> mark_first();
  [[nodiscard]] io::Task<Result<void>> copy_more();
  [[nodiscard]] io::Task<Result<void>> become_ready_when_alike();
  [[nodiscard]] io::Task<Result<void>> flush_target();
  [[nodiscard]] io::Task<Result<void>> copy_rest();
  [[nodiscard]] io::Task<Result<void>> pivot();
  [[nodiscard]] bool caught_up() const;
  void grow_total() { set_total(done() + copy_->uncopied_bytes()); }
  [[nodiscard]] filters::MirrorTop& top() const;
  // The edge that keeps the filter.
  [[nodiscard]] block::Edge& entrance() const { return *kept().front(); }

  MirrorSettings wanted_;
  std::shared_ptr<block::Node> filter_;
  std::optional<block::BlockCopy> copy_;
  bool following_ = false;        // progress counts
  unsigned rounds_ = 0;           // ways through the disk
  bool finishing_ = false;        // somebody has asked for the end
  bool pivot_ = false;            // with the users going over
  std::optional<Error> failure_;  // of a write to both sides
};

}  // namespace cairn::jobs
