#include "tools/ctl/activity.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/size_text.h"
#include "tools/ctl/json.h"

namespace cairn::ctl {

namespace {

using schema::JsonArray;
using schema::JsonObject;
using schema::JsonValue;

std::vector<JobSample> jobs_in(const Answers& answers) {
  std::vector<JobSample> jobs;
  for (const JsonObject* info : objects_in(&answers.jobs)) {
    jobs.push_back({.id = clean_text_in(*info, "id"),
                    .type = clean_text_in(*info, "type"),
                    .status = clean_text_in(*info, "status"),
                    .error = clean_text_in(*info, "error"),
                    .current = number_in(*info, "current-progress", 0),
                    .total = number_in(*info, "total-progress", 0)});
  }
  // A job on devices counts bytes.
  for (const JsonObject* info : objects_in(&answers.block_jobs)) {
    const auto at = std::ranges::find(jobs, clean_text_in(*info, "device"), &JobSample::id);
    if (at != jobs.end()) {
      at->in_bytes = true;
    }
  }
  return jobs;
}

std::string amount(const JobSample& job, int64_t units) {
  return job.in_bytes ? format_size(static_cast<uint64_t>(std::max<int64_t>(units, 0)))
                      : fmt::format("{}", units);
}

std::string job_rate_text(const JobSample& job, std::optional<double> rate) {
  return job.in_bytes ? format_rate(rate) : rate ? fmt::format("{:.0f}/s", *rate) : "-";
}

std::string per_second(std::optional<double> rate) {
  return rate ? fmt::format("{:.0f}", *rate) : "-";
}

std::string size_text(int64_t bytes) {
  return format_size(static_cast<uint64_t>(std::max<int64_t>(bytes, 0)));
}

double rate_of(int64_t before, int64_t now, double seconds) {
  // Counters of a node that was made anew begin again.
  return now >= before && seconds > 0 ? static_cast<double>(now - before) / seconds : 0;
}

}  // namespace

const NodeSample* Sample::find_node(const std::string& name) const {
  const auto at = std::ranges::find(nodes, name, &NodeSample::name);
  return at == nodes.end() ? nullptr : &*at;
}

Sample make_sample(const Answers& answers, std::chrono::steady_clock::time_point time) {
  Sample sample{.time = time, .jobs = jobs_in(answers), .nodes = {}, .exports = {}};
  for (const JsonObject* info : objects_in(&answers.nodes)) {
    const JsonObject* image = object_in(*info, "image");
    sample.nodes.push_back({.name = clean_text_in(*info, "node-name"),
                            .driver = clean_text_in(*info, "drv"),
                            .size = image ? number_in(*image, "virtual-size", 0) : 0});
  }
  for (const JsonObject* info : objects_in(&answers.statistics)) {
    const auto at =
        std::ranges::find(sample.nodes, clean_text_in(*info, "node-name"), &NodeSample::name);
    const JsonObject* stats = object_in(*info, "stats");
    if (at != sample.nodes.end() && stats) {
      at->read_bytes = number_in(*stats, "rd_bytes", 0);
      at->write_bytes = number_in(*stats, "wr_bytes", 0);
      at->read_operations = number_in(*stats, "rd_operations", 0);
      at->write_operations = number_in(*stats, "wr_operations", 0);
    }
  }
  for (const JsonObject* info : objects_in(&answers.exports)) {
    sample.exports.push_back({.id = clean_text_in(*info, "id"),
                              .type = clean_text_in(*info, "type"),
                              .node = clean_text_in(*info, "node-name"),
                              .shutting_down = flag_in(*info, "shutting-down")});
  }
  return sample;
}

double progress_of(const JobSample& job) {
  if (job.total <= 0) {
    return job.status == "concluded" && job.error.empty() ? 1 : 0;
  }
  return std::clamp(static_cast<double>(job.current) / static_cast<double>(job.total), 0.0, 1.0);
}

void Activity::take(Sample sample) {
  if (latest_.time != std::chrono::steady_clock::time_point()) {
    before_ = std::move(latest_);
  }
  latest_ = std::move(sample);
  if (!before_) {
    return;
  }
  const double seconds = std::chrono::duration<double>(latest_.time - before_->time).count();
  std::map<std::string, double> rates;
  for (const JobSample& job : latest_.jobs) {
    const auto old = std::ranges::find(before_->jobs, job.id, &JobSample::id);
    if (old == before_->jobs.end() || seconds <= 0) {
      continue;
    }
    const double now = rate_of(old->current, job.current, seconds);
    const auto known = job_rates_.find(job.id);
    // The weight of the past halves every three seconds.
    const double past = std::exp2(-seconds / 3);
    rates[job.id] = known == job_rates_.end() ? now : past * known->second + (1 - past) * now;
  }
  job_rates_ = std::move(rates);
}

std::optional<Activity::NodeRates> Activity::node_rates(const std::string& name) const {
  const NodeSample* now = latest_.find_node(name);
  const NodeSample* old = before_ ? before_->find_node(name) : nullptr;
  if (!now || !old) {
    return std::nullopt;
  }
  const double seconds = std::chrono::duration<double>(latest_.time - before_->time).count();
  return NodeRates{
      .read_bytes = rate_of(old->read_bytes, now->read_bytes, seconds),
      .write_bytes = rate_of(old->write_bytes, now->write_bytes, seconds),
      .read_operations = rate_of(old->read_operations, now->read_operations, seconds),
      .write_operations = rate_of(old->write_operations, now->write_operations, seconds)};
}

std::optional<double> Activity::job_rate(const std::string& id) const {
  const auto at = job_rates_.find(id);
  return at == job_rates_.end() ? std::nullopt : std::optional(at->second);
}

std::optional<std::chrono::seconds> Activity::time_left(const JobSample& job) const {
  const auto rate = job_rate(job.id);
  if (!rate || *rate < 1e-6 || job.total <= job.current || job.status != "running") {
    return std::nullopt;
  }
  const double seconds = static_cast<double>(job.total - job.current) / *rate;
  return std::chrono::seconds(static_cast<int64_t>(std::min(std::ceil(seconds), 1e9)));
}

Table Activity::jobs_table(const Style& style) const {
  // What is in the way goes first where there is little room.
  const size_t bar = style.width == 0 || style.width >= 110 ? 30
                     : style.width >= 90                    ? 20
                     : style.width >= 80                    ? 10
                                                            : 0;
  Table table({{"JOB"},
               {"TYPE"},
               {"STATUS"},
               {bar > 0 ? "PROGRESS" : ""},
               {bar > 0 ? "" : "PROGRESS", true},
               {"DONE", true},
               {"RATE", true},
               {"LEFT", true},
               {""}});
  for (const JobSample& job : latest_.jobs) {
    const double part = progress_of(job);
    const auto left = time_left(job);
    table.add({job.id, job.type, job.status, progress_bar(part, bar),
               fmt::format("{:.0f}%", std::floor(part * 100)),
               fmt::format("{} of {}", amount(job, job.current), amount(job, job.total)),
               job_rate_text(job, job_rate(job.id)), left ? format_duration(*left) : "-",
               job.error});
  }
  return table;
}

Table Activity::exports_table() const {
  Table table({{"EXPORT"},
               {"TYPE"},
               {"NODE"},
               {"READS/S", true},
               {"READ", true},
               {"WRITES/S", true},
               {"WRITTEN", true},
               {""}});
  for (const ExportSample& one : latest_.exports) {
    const auto rates = node_rates(one.node);
    table.add({one.id, one.type, one.node,
               per_second(rates ? std::optional(rates->read_operations) : std::nullopt),
               format_rate(rates ? std::optional(rates->read_bytes) : std::nullopt),
               per_second(rates ? std::optional(rates->write_operations) : std::nullopt),
               format_rate(rates ? std::optional(rates->write_bytes) : std::nullopt),
               one.shutting_down ? "shutting down" : ""});
  }
  return table;
}

Table Activity::nodes_table() const {
  Table table({{"NODE"},
               {"DRIVER"},
               {"SIZE", true},
               {"READ", true},
               {"WRITTEN", true},
               {"READ/S", true},
               {"WRITTEN/S", true}});
  for (const NodeSample& node : latest_.nodes) {
    const auto rates = node_rates(node.name);
    table.add({node.name, node.driver, size_text(node.size), size_text(node.read_bytes),
               size_text(node.write_bytes),
               format_rate(rates ? std::optional(rates->read_bytes) : std::nullopt),
               format_rate(rates ? std::optional(rates->write_bytes) : std::nullopt)});
  }
  return table;
}

std::string Activity::screen(const Style& style) const {
  std::string out;
  for (const Table& table : {jobs_table(style), exports_table(), nodes_table()}) {
    if (!table.empty()) {
      out += out.empty() ? "" : "\n";
      out += table.text(style);
    }
  }
  return out.empty() ? "There are no jobs, exports and nodes.\n" : out;
}

std::string Activity::lines(const std::string& stamp) const {
  std::string out;
  for (const JobSample& job : latest_.jobs) {
    const auto left = time_left(job);
    out += fmt::format("{} job {} {} {} {:.0f}% {}/{}{}{}{}\n", stamp, job.id, job.type, job.status,
                       std::floor(progress_of(job) * 100), amount(job, job.current),
                       amount(job, job.total),
                       job_rate(job.id) ? ", " + job_rate_text(job, job_rate(job.id)) : "",
                       left ? ", " + format_duration(*left) + " left" : "",
                       job.error.empty() ? "" : ": " + job.error);
  }
  for (const ExportSample& one : latest_.exports) {
    if (before_ && std::ranges::find(before_->exports, one) != before_->exports.end()) {
      continue;
    }
    out += fmt::format("{} export {} {} of {}{}\n", stamp, one.id, one.type, one.node,
                       one.shutting_down ? ", shutting down" : "");
  }
  for (const NodeSample& node : latest_.nodes) {
    const auto rates = node_rates(node.name);
    if (rates &&
        rates->read_operations + rates->write_operations + rates->read_bytes + rates->write_bytes <=
            0) {
      continue;
    }
    out += fmt::format("{} node {} {}: read {} in {}, written {} in {}{}\n", stamp, node.name,
                       node.driver, size_text(node.read_bytes), node.read_operations,
                       size_text(node.write_bytes), node.write_operations,
                       rates ? fmt::format(", now {} and {}", format_rate(rates->read_bytes),
                                           format_rate(rates->write_bytes))
                             : "");
  }
  return out;
}

JsonValue Activity::to_json() const {
  JsonArray jobs;
  for (const JobSample& job : latest_.jobs) {
    JsonObject entry;
    entry.add("id", job.id);
    entry.add("type", job.type);
    entry.add("status", job.status);
    entry.add("current", job.current);
    entry.add("total", job.total);
    if (const auto rate = job_rate(job.id)) {
      entry.add("rate", *rate);
    }
    if (const auto left = time_left(job)) {
      entry.add("seconds-left", int64_t{left->count()});
    }
    if (!job.error.empty()) {
      entry.add("error", job.error);
    }
    jobs.emplace_back(std::move(entry));
  }
  JsonArray exports;
  for (const ExportSample& one : latest_.exports) {
    JsonObject entry;
    entry.add("id", one.id);
    entry.add("type", one.type);
    entry.add("node-name", one.node);
    entry.add("shutting-down", one.shutting_down);
    exports.emplace_back(std::move(entry));
  }
  JsonArray nodes;
  for (const NodeSample& node : latest_.nodes) {
    JsonObject entry;
    entry.add("node-name", node.name);
    entry.add("driver", node.driver);
    entry.add("size", node.size);
    entry.add("read-bytes", node.read_bytes);
    entry.add("written-bytes", node.write_bytes);
    entry.add("reads", node.read_operations);
    entry.add("writes", node.write_operations);
    if (const auto rates = node_rates(node.name)) {
      entry.add("read-rate", rates->read_bytes);
      entry.add("write-rate", rates->write_bytes);
    }
    nodes.emplace_back(std::move(entry));
  }
  JsonObject all;
  all.add("jobs", std::move(jobs));
  all.add("exports", std::move(exports));
  all.add("nodes", std::move(nodes));
  return all;
}

}  // namespace cairn::ctl
