// Activity: what a daemon does, from samples of its counters.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "schema/json.h"
#include "tools/ctl/text.h"

namespace cairn::ctl {

struct JobSample {
  std::string id;
  std::string type;
  std::string status;
  std::string error;
  bool in_bytes = false;  // else progress has units of the job's own
  int64_t current = 0;
  int64_t total = 0;
};

struct NodeSample {
  std::string name;
  std::string driver;
  int64_t size = 0;
  int64_t read_bytes = 0;
  int64_t write_bytes = 0;
  int64_t read_operations = 0;
  int64_t write_operations = 0;
};

struct ExportSample {
  std::string id;
  std::string type;
  std::string node;
  bool shutting_down = false;

  bool operator==(const ExportSample&) const = default;
};

// All at one time.
struct Sample {
  std::chrono::steady_clock::time_point time;
  std::vector<JobSample> jobs;
  std::vector<NodeSample> nodes;
  std::vector<ExportSample> exports;

  [[nodiscard]] const NodeSample* find_node(const std::string& name) const;
};

// From what the five queries answered; an answer that is null is of a command which the daemon
// does not know.
struct Answers {
  schema::JsonValue jobs;        // query-jobs
  schema::JsonValue block_jobs;  // query-block-jobs
  schema::JsonValue nodes;       // query-named-block-nodes
  schema::JsonValue statistics;  // query-blockstats with query-nodes
  schema::JsonValue exports;     // query-block-exports
};
[[nodiscard]] Sample make_sample(const Answers& answers,
                                 std::chrono::steady_clock::time_point time);

// Rates are the changes between samples; those of jobs are smoothed, so that the time left does
// not jump.
class Activity {
 public:
  void take(Sample sample);

  // Tables of the latest sample: jobs with bars, exports, nodes.
  [[nodiscard]] std::string screen(const Style& style) const;
  // For logs: a line for each job, for each node that did something since the sample before, and
  // for exports when they changed. The first sample has all.
  [[nodiscard]] std::string lines(const std::string& stamp) const;
  [[nodiscard]] schema::JsonValue to_json() const;

  // Per second; nothing when there was no sample before.
  struct NodeRates {
    double read_bytes = 0;
    double write_bytes = 0;
    double read_operations = 0;
    double write_operations = 0;
  };
  [[nodiscard]] std::optional<NodeRates> node_rates(const std::string& name) const;
  // Units per second.
  [[nodiscard]] std::optional<double> job_rate(const std::string& id) const;
  // Until the job is done, when it makes progress.
  [[nodiscard]] std::optional<std::chrono::seconds> time_left(const JobSample& job) const;

 private:
  [[nodiscard]] Table jobs_table(const Style& style) const;
  [[nodiscard]] Table exports_table() const;
  [[nodiscard]] Table nodes_table() const;

  Sample latest_;
  std::optional<Sample> before_;
  std::map<std::string, double> job_rates_;
};

// From 0 to 1; a job that has nothing to do is done when it says so.
[[nodiscard]] double progress_of(const JobSample& job);

}  // namespace cairn::ctl
