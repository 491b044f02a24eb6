// CopyJobTest: a disk "source" that a guest writes to, a node "target", and jobs that copy from one
// to the other. On simulated files, by virtual time.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "io/timer.h"
#include "jobs/backup_job.h"
#include "jobs/job_list.h"
#include "jobs/mirror_job.h"
#include "tests/block/block_test.h"

namespace cairn::jobs {

class CopyJobTest : public block::BlockTest {
 protected:
  static constexpr uint64_t kGranule = 64 << 10;
  static constexpr uint64_t kSize = 24 * kGranule;
  static constexpr uint64_t kHole = kSize * 3 / 4;  // where the disk's hole begins

  CopyJobTest() {
    block::ClusterFormat::settings().length = kSize;
    JobEvents events;
    events.error = [this](const BlockJob&, schema::IoOperationType operation,
                          schema::BlockErrorAction action) {
      errors_.push_back(std::string(schema::to_string(operation)) + " " +
                        std::string(schema::to_string(action)));
    };
    list_.set_events(std::move(events));
  }
  void TearDown() override {
    run(list_.close());
    BlockTest::TearDown();
  }

  static schema::BlockdevOptions with_name(schema::BlockdevOptions options, const char* name) {
    options.node_name = name;
    options.discard = schema::BlockdevDiscardOptions::kUnmap;
    return options;
  }
  // The disk holds write 1, but for the last quarter, which is a hole. The guest's edge.
  block::Edge& add_source() {
    world_.add("source", testing::SparseBytes(kSize));
    block::Edge& guest = attach(with_name(file_options("source"), "source"));
    EXPECT_TRUE(write(guest, 1, 0, kHole));
    return guest;
  }
  // Held by a reader that asks for nothing.
  void add_target(uint64_t size = kSize) {
    world_.add("target", testing::SparseBytes(size));
    hold(with_name(file_options("target"), "target"));
  }
  block::Edge& hold(const schema::BlockdevOptions& options) {
    auto node = run(graph_.open(options));
    EXPECT_TRUE(node.has_value()) << node.error().message();
    edges_.push_back(block::Graph::hold(*node));
    return *edges_.back();
  }
  // What a node holds, read by somebody new.
  std::vector<std::byte> content(const char* name) {
    auto edge = graph_.attach(graph_.find(name), "a test", kReader);
    EXPECT_TRUE(edge.has_value()) << edge.error().message();
    std::vector<std::byte> data = read(**edge, 0, kSize);
    EXPECT_TRUE(run(graph_.detach(std::move(*edge))));
    return data;
  }
  // Write 1 and the hole.
  std::vector<std::byte> old_content() {
    std::vector<std::byte> data = pattern(1, 0, kHole);
    data.resize(kSize);
    return data;
  }

  BackupSettings backup() {
    return {.source = graph_.find("source"), .target = graph_.find("target")};
  }
  MirrorSettings mirror() {
    return {.source = graph_.find("source"), .target = graph_.find("target")};
  }
  static JobSettings named_j(schema::JobType type) {
    return {.id = "j", .type = type, .auto_dismiss = false};
  }
  Result<void> start(BackupSettings wanted) { return run(start_task(std::move(wanted))); }
  Result<void> start(MirrorSettings wanted) { return run(start_task(std::move(wanted))); }

  io::Task<Result<void>> start_task(BackupSettings wanted) {
    const auto alone = co_await graph_.alone();
    co_await let_others_notice();
    point_in_time();
    auto job = co_await BackupJob::make(list_, named_j(schema::JobType::kBackup), graph_,
                                        std::move(wanted));
    if (!job) {
      co_return pass(job);
    }
    list_.start(std::move(*job));
    co_return Result<void>();
  }
  io::Task<Result<void>> start_task(MirrorSettings wanted) {
    const auto alone = co_await graph_.alone();
    auto job = co_await MirrorJob::make(list_, named_j(schema::JobType::kMirror), graph_,
                                        std::move(wanted));
    if (!job) {
      co_return pass(job);
    }
    list_.start(std::move(*job));
    co_return Result<void>();
  }
  // Requests that ended before a drain was complete have told those who made them.
  static io::Task<void> let_others_notice() {
    for (int i = 0; i < 20; ++i) {
      co_await io::yield_now();
    }
  }
  // No request is in flight: the state that a backup saves.
  virtual void point_in_time() {}

  io::Task<void> until(schema::JobStatus status) {
    for (;;) {
      const schema::JobStatus now = list_.find("j")->status();
      if (now == status || now == schema::JobStatus::kConcluded) {
        break;
      }
      static_cast<void>(co_await io::sleep_for(std::chrono::milliseconds(1)));
    }
  }
  void wait_for(schema::JobStatus status) {
    run(until(status));
    EXPECT_EQ(schema::to_string(list_.find("j")->status()), schema::to_string(status));
  }
  // The job's end: its error's message, and it is forgotten.
  std::string finish() {
    run(until(schema::JobStatus::kConcluded));
    const auto& error = list_.find("j")->error();
    std::string message = error ? error->message() : "";
    EXPECT_TRUE(list_.dismiss("j"));
    return message;
  }
  BlockJob& job() { return *list_.find_block_job("j"); }

  JobList list_;
  std::vector<std::string> errors_;
};

}  // namespace cairn::jobs
