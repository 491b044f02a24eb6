// ChainLife: one random life of a job on a backing chain, from one seed: a chain of simulated
// images, clients that use it, a job that streams or commits, commands to the job, errors and power
// cuts; and then what is found.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "block/driver_table.h"
#include "block/graph.h"
#include "io/reactor.h"
#include "io/task_group.h"
#include "jobs/job_list.h"
#include "tests/sim/content_model.h"
#include "tests/support/random.h"
#include "tests/support/simulated_world.h"

namespace cairn::testing {

class ChainLife {
 public:
  explicit ChainLife(uint64_t seed);
  ChainLife(const ChainLife&) = delete;
  ChainLife& operator=(const ChainLife&) = delete;

  // Lives it. What was found to be wrong; empty when nothing was.
  [[nodiscard]] std::string live();

  [[nodiscard]] const std::string& what() const { return what_; }
  // How it went, for a test to see that all kinds of ends come up.
  [[nodiscard]] bool cut() const { return cut_; }
  [[nodiscard]] bool job_succeeded() const { return job_succeeded_; }

 private:
  void make_images();
  void make_image(const std::string& name, const std::string& below, uint64_t length);
  [[nodiscard]] io::Task<void> play();
  [[nodiscard]] io::Task<Result<std::shared_ptr<block::Node>>> open(std::string name,
                                                                    bool writable);
  [[nodiscard]] io::Task<Result<std::unique_ptr<jobs::Job>>> make_job(
      std::shared_ptr<block::Node> top);
  [[nodiscard]] io::Task<void> use(unsigned operations);
  [[nodiscard]] io::Task<void> one_operation(uint64_t offset, uint64_t length);
  [[nodiscard]] io::Task<void> steer();
  [[nodiscard]] io::Task<void> inspect();
  void verify(const std::string& name);
  void find(std::string text);
  [[nodiscard]] std::shared_ptr<block::Node> behind(const std::shared_ptr<block::Node>& node,
                                                    unsigned steps) const;

  uint64_t seed_;
  Random random_;
  SimulatedWorld world_;
  io::Reactor reactor_;
  block::DriverTable drivers_;
  block::Graph graph_{drivers_};
  jobs::JobList list_;
  std::unique_ptr<ContentModel> model_;
  std::unique_ptr<block::Edge> edge_;
  WriteNumber next_number_ = 100;
  std::vector<std::string> names_;  // from the base up
  std::string current_;             // the image that is in use
  std::string what_;
  std::string found_;
  bool cut_ = false;
  bool job_succeeded_ = false;
  bool job_over_ = false;
};

}  // namespace cairn::testing
