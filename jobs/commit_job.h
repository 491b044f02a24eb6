// Committing as a job: what an image, and the images below it, hold of their own goes into an image
// of their backing chain, which then takes their place. What block-commit asks for.
//
// Nothing that is read through the chain changes at any moment: the base changes only where what is
// above hides it, it is durable before anything points to it, and a job that ends earlier leaves a
// base with some of what was to be there. What nobody may expect to stay is what the base and the
// images between read as on their own, and the job does not share them for that.
//
//   intermediate_commit.h  an image that is itself a backing file, and is not written to
//   active_commit.h        the image that is in use
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "block/graph_edit.h"
#include "block/node.h"
#include "io/task.h"
#include "jobs/block_job.h"
#include "jobs/job_list.h"
#include "jobs/piece_copy.h"
#include "jobs/writable_node.h"
#include "schema/types_job.h"

namespace cairn::jobs {

struct CommitJobOptions {
  JobSettings settings;
  std::shared_ptr<block::Node> device;  // the image that is in use, perhaps below filters
  std::shared_ptr<block::Node> top;     // the one to be committed: the device, or behind it
  std::shared_ptr<block::Node> base;    // behind `top`
  // What the header of the images above `top` says in place of the base's name.
  std::optional<std::string> backing_file;
  bool mask_protocol = false;  // the header says "raw" rather than a protocol
  int64_t speed = 0;
  schema::BlockdevOnError on_error = schema::BlockdevOnError::kReport;
  std::optional<std::string> filter_node_name;
};

class CommitJob : public BlockJob {
 public:
  // Sets one up, for the caller to add to `list`, to which it was announced. A failure leaves the
  // graph as it was.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Job>>> make(JobList& list,
                                                                   block::Graph& graph,
                                                                   CommitJobOptions options,
                                                                   InDrain drain);

 protected:
  CommitJob(block::Graph& graph, CommitJobOptions options);

  [[nodiscard]] io::Task<void> clean() override;

  // What differs between the two kinds: the filter, and how nodes are kept.
  [[nodiscard]] virtual block::NewFilter new_filter(std::optional<std::string> name) const = 0;
  [[nodiscard]] virtual Result<void> keep_nodes() = 0;

  [[nodiscard]] const CommitJobOptions& options() const { return options_; }
  [[nodiscard]] const std::shared_ptr<block::Node>& image() const { return image_; }
  [[nodiscard]] const std::shared_ptr<block::Node>& filter() const { return filter_; }
  [[nodiscard]] block::Edge& source() const { return *source_; }
  [[nodiscard]] block::Edge& target() const { return *target_; }
  [[nodiscard]] bool base_grows() const { return options_.base->length() < image_->length(); }
  void set_edges(block::Edge* source, block::Edge* target) {
    source_ = source;
    target_ = target;
  }
  // The images between are not to be read by others meanwhile.
  [[nodiscard]] Result<void> keep_between(const std::shared_ptr<block::Node>& first);

  // A piece of what the image reads as.
  struct Piece {
    uint64_t length = 0;
    bool needed = false;  // it is not what the base has anyway
    bool zero = false;
  };
  [[nodiscard]] io::Task<Result<Piece>> look(uint64_t offset, uint64_t length);
  // Copies it if it is needed.
  [[nodiscard]] io::Task<std::optional<PieceFailure>> copy(uint64_t offset, Piece piece);
  // Whether to try again, after what the policy says; false: the job fails with the error.
  [[nodiscard]] io::Task<bool> tries_again(schema::IoOperationType operation, Error error);
  // Makes the base as long as the image if it is shorter.
  [[nodiscard]] io::Task<Result<void>> grow();
  // Within an edit: all that use the image use the base.
  [[nodiscard]] Result<void> move_users(block::GraphEdit& edit);
  void base_stays_writable() { base_writable_.keep(); }

 private:
  // Announced on the way, unless it was before: null.
  [[nodiscard]] io::Task<Result<void>> set_up(JobList* announced_to, InDrain drain);

  CommitJobOptions options_;
  std::shared_ptr<block::Node> image_;  // without filters
  std::shared_ptr<block::Node> filter_;
  std::size_t layers_ = 0;  // images from image_ to the one above the base
  block::Edge* source_ = nullptr;
  block::Edge* target_ = nullptr;
  WritableNode base_writable_;
  WritableNode image_writable_;
  PieceCopy copier_;
};

}  // namespace cairn::jobs
