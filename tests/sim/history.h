// History: one run of the production engine on simulated disks, from one seed.
//
// A history builds a chain of images with known content and plays a few rounds. A round opens the
// chain, issues random operations, many at once, and ends cleanly, by failing requests or by a
// power cut at some request. After each round the image must be sound by three judges (the
// verifier of tests/support on the raw bytes, the engine's own check and, in a sample, qemu-img),
// and every byte must be one that the model of the content admits.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block/driver_table.h"
#include "block/graph.h"
#include "io/reactor.h"
#include "io/task_group.h"
#include "tests/sim/content_model.h"
#include "tests/sim/plan.h"
#include "tests/support/qcow2_verifier.h"
#include "tests/support/simulated_world.h"

namespace cairn::testing {

struct HistoryResult {
  // What went wrong; empty when nothing did.
  std::string finding;
  // Equal for equal seeds.
  uint64_t fingerprint = 0;
  uint64_t operations = 0;
  uint64_t requests = 0;  // of the disks
  uint64_t states = 0;    // what a cut of the power left, and was looked at
  std::string plan;
};

class History {
 public:
  explicit History(const SimOptions& options);
  [[nodiscard]] HistoryResult run();

 private:
  // images.cc: the chain at the start.
  void build_images();
  std::unique_ptr<ContentModel> build_image(const std::string& name, const Qcow2Shape& shape,
                                            const ContentModel* backing, bool populated);
  std::unique_ptr<ContentModel> build_raw(const std::string& name, uint64_t size, bool populated);
  void fill_cluster(Qcow2Builder& builder, ContentModel& model, const Qcow2Shape& shape,
                    uint64_t index);

  // history.cc: rounds.
  io::Task<void> play(const Round& round);
  io::Task<Result<void>> open_top(bool writable);
  io::Task<void> close_top();
  [[nodiscard]] schema::BlockdevOptions top_options() const;
  void arm(const Round& round);
  // Errors are to be expected: of a fault, or after the power went.
  [[nodiscard]] bool troubled() const;
  void find(std::string what);
  [[nodiscard]] bool found() const { return !result_.finding.empty(); }

  // operations.cc
  struct Range {
    uint64_t offset = 0;
    uint64_t length = 0;
  };
  Range draw_range();
  Range draw_clusters();
  void start_operation(io::TaskGroup& group);
  void start_resize(io::TaskGroup& group);
  io::Task<void> do_read(Range range);
  io::Task<void> do_write(Range range, WriteNumber number, bool fua);
  io::Task<void> do_compressed_write(Range range, WriteNumber number);
  io::Task<void> do_zero(Range range, block::ZeroFlags flags);
  io::Task<void> do_discard(Range range);
  io::Task<void> do_flush();
  io::Task<void> do_status(Range range);
  io::Task<void> do_resize(uint64_t length);
  // snapshots.cc
  void start_snapshot(io::TaskGroup& group);
  io::Task<void> create_snapshot(std::string name);
  io::Task<void> apply_snapshot(std::string name);
  io::Task<void> delete_snapshot(std::string name);
  [[nodiscard]] std::string snapshot_id(const std::string& name) const;
  // Notes the end of an operation and judges its error.
  void ended(std::string_view what, Range range, const Result<void>& result);

  // inspection.cc: what is found afterwards.
  io::Task<void> inspect(const Round& round);
  void inspect_bytes(bool clean);
  void inspect_snapshots(const Qcow2Verifier& verifier);
  [[nodiscard]] std::function<void(uint64_t, std::span<std::byte>)> backing_reader() const;
  io::Task<void> inspect_by_engine();
  io::Task<void> repair();
  void inspect_by_qemu();
  void save_images(const std::string& directory);

  SimOptions options_;
  Random random_;
  Plan plan_;
  SimulatedWorld world_;
  io::Reactor reactor_;
  block::DriverTable drivers_;
  block::Graph graph_;
  std::vector<std::unique_ptr<ContentModel>> below_;  // the lowest first
  std::unique_ptr<ContentModel> model_;
  std::string top_;  // the file's name
  std::unique_ptr<block::Edge> root_;
  WriteNumber next_number_ = 1;
  // Operations stay below this; less than the length while a resize is on.
  uint64_t limit_ = 0;
  bool resizing_ = false;  // or a snapshot is made, applied or deleted
  struct Snapshot {
    ContentModel content;
    bool certain = true;  // false: it may be there or not
  };
  std::map<std::string, Snapshot> snapshots_;  // by name, of which each is used once
  unsigned next_snapshot_ = 1;
  uint64_t faults_before_ = 0;
  bool failed_ = false;  // some operation of this round has failed
  uint64_t leaks_ = 0;   // known from earlier rounds
  uint64_t leaks_in_file_ = 0;
  bool dirty_ = false;  // the image: its refcounts were postponed
  HistoryResult result_;
};

}  // namespace cairn::testing
