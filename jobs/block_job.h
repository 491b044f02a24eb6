// BlockJob: a job that works on nodes which others may be using.
//
// It keeps the nodes that it works on: as long as it has not ended they are not closed, and
// commands that would get in its way are refused. Its requests obey a speed limit, and what becomes
// of a failed one is for a policy to say.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "block/graph.h"
#include "block/node.h"
#include "block/permissions.h"
#include "io/task.h"
#include "jobs/job.h"
#include "jobs/rate_limit.h"
#include "schema/types_job.h"

namespace cairn::jobs {

class BlockJob : public Job {
 public:
  // `graph` outlives the job. `speed` in bytes a second; 0: no limit; less: announce() fails.
  BlockJob(JobSettings settings, block::Graph& graph, int64_t speed)
      : Job(std::move(settings)),
        graph_(graph),
        asked_speed_(speed),
        limit_(speed > 0 ? static_cast<uint64_t>(speed) : 0) {}

  [[nodiscard]] uint64_t speed() const { return limit_.speed(); }
  void set_speed(uint64_t speed);
  [[nodiscard]] schema::BlockDeviceIoStatus io_status() const { return io_status_; }
  // Of a mirror: whether writes reach both sides and nothing else is left to copy.
  [[nodiscard]] virtual bool actively_synced() const { return false; }
  // What block-job-change asks for. ENOTSUP.
  [[nodiscard]] virtual Result<void> change(const schema::BlockJobChangeOptions& wanted);

  // Whether commands are to leave the node alone.
  [[nodiscard]] bool blocks(const block::Node& node) const;
  // The edges by which it keeps its nodes.
  [[nodiscard]] const std::vector<std::unique_ptr<block::Edge>>& kept() const { return kept_; }

  // Before the job is given to a list, or while it runs: keeps a node, as what `role` says ("main
  // node"), using and sharing what `permissions` say. EPERM when others do not share that. The edge
  // stays with its node, whatever is put above that.
  [[nodiscard]] Result<void> keep(std::string role, std::shared_ptr<block::Node> node,
                                  block::Permissions permissions);
  // An edge for its requests. The job owns it until it ends, or drop() takes it back.
  [[nodiscard]] Result<block::Edge*> attach(std::shared_ptr<block::Node> node,
                                            block::Permissions permissions);
  [[nodiscard]] io::Task<Result<void>> drop(block::Edge* edge);
  // Lets go of all nodes. For a job that comes to no list; clean() does it otherwise.
  [[nodiscard]] io::Task<Result<void>> release_nodes();

 protected:
  // Lets go of all nodes. Whoever overrides it calls it last.
  [[nodiscard]] io::Task<void> clean() override;
  void on_resume() override { io_status_ = schema::BlockDeviceIoStatus::kOk; }

  [[nodiscard]] block::Graph& graph() const { return graph_; }

  // JobList::announce(), and then the check of the speed: where in the making of a job both belong.
  [[nodiscard]] Result<void> announce(JobList& list);

  // What is to become of the work after a failed request: tells of it, and has the job pause when
  // it is to stop, from which it goes on by trying again. `ignore` means to try again, too.
  [[nodiscard]] schema::BlockErrorAction on_error(schema::BlockdevOnError policy,
                                                  schema::IoOperationType operation,
                                                  const Error& error);

  // The speed limit: work that was done is charged, and may_go_on() waits until more may be done.
  // It is a pause point, too.
  void charge(uint64_t bytes);
  [[nodiscard]] io::Task<void> may_go_on();

 private:
  block::Graph& graph_;
  int64_t asked_speed_;
  RateLimit limit_;
  schema::BlockDeviceIoStatus io_status_ = schema::BlockDeviceIoStatus::kOk;
  std::vector<std::unique_ptr<block::Edge>> kept_;
  std::vector<std::unique_ptr<block::Edge>> attached_;
};

}  // namespace cairn::jobs
