// Streaming: what an image does not have of its own it gets from its backing chain, until it needs
// the nearest part of that chain no more. What block-stream asks for.
//
// Others go on using the image: each piece is copied under the lock that allocating writes take
// (Engine::copy_up()), so nothing that is read changes at any moment. When all is copied and
// durable, the image's header is told of its new backing file, and the node below is replaced. A
// job that ends earlier leaves an image with some more of its own, which is as good as before.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "block/node.h"
#include "io/task.h"
#include "jobs/block_job.h"
#include "jobs/job_list.h"
#include "jobs/writable_node.h"
#include "schema/types_job.h"

namespace cairn::jobs {

struct StreamOptions {
  JobSettings settings;
  std::shared_ptr<block::Node> device;  // the image, perhaps below filters
  // The last image that is copied from, which is in the image's chain; the image itself: nothing is
  // copied. Null: the whole chain is.
  std::shared_ptr<block::Node> bottom;
  std::optional<std::string> backing_file;  // what the header says in place of the new one's name
  bool mask_protocol = false;               // the header says "raw" rather than a protocol
  int64_t speed = 0;
  schema::BlockdevOnError on_error = schema::BlockdevOnError::kReport;
  std::optional<std::string> filter_node_name;
};

class StreamJob final : public BlockJob {
 public:
  // Sets one up, for the caller to add to `list`, to which it was announced. A failure leaves the
  // graph as it was.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Job>>> make(JobList& list,
                                                                   block::Graph& graph,
                                                                   StreamOptions options,
                                                                   InDrain drain);

  StreamJob(block::Graph& graph, StreamOptions options);

 private:
  [[nodiscard]] io::Task<Result<void>> run() override;
  [[nodiscard]] io::Task<Result<void>> prepare() override;
  [[nodiscard]] io::Task<void> clean() override;

  [[nodiscard]] io::Task<Result<void>> set_up(JobList& list, InDrain drain);
  [[nodiscard]] Result<void> keep_nodes(const std::shared_ptr<block::Node>& device);
  [[nodiscard]] io::Task<Result<void>> stream();
  [[nodiscard]] io::Task<Result<uint64_t>> stream_piece(uint64_t offset, uint64_t length);
  [[nodiscard]] io::Task<Result<void>> change_backing();

  StreamOptions options_;
  std::shared_ptr<block::Node> image_;   // without filters
  std::shared_ptr<block::Node> bottom_;  // null when nothing is to be copied
  std::shared_ptr<block::Node> base_;    // what is behind bottom_; null: nothing
  std::shared_ptr<block::Node> filter_;
  std::size_t layers_ = 0;  // images from image_ to bottom_
  WritableNode writable_;
  std::optional<Error> ignored_;  // the first error that was passed over
};

}  // namespace cairn::jobs
