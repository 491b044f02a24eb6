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
#include <set>
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
  [[nodiscard]] std::string below_name(std::size_t depth) const;
  std::unique_ptr<ContentModel> build_image(const std::string& name, const Qcow2Shape& shape,
                                            const ContentModel* backing, bool populated);
  std::unique_ptr<ContentModel> build_raw(const std::string& name, uint64_t size, bool populated);
  void fill_cluster(Qcow2Builder& builder, ContentModel& model, const Qcow2Shape& shape,
                    uint64_t index);

  // history.cc: rounds.
  io::Task<void> play(const Round& round);
  io::Task<Result<void>> open_top(bool writable, bool commits = false);
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
  struct Bitmap {
    struct Attempt {
      Range range;
      WriteNumber number;
    };
    uint64_t granularity = 0;
    bool certain = true;            // false: it may be there or not
    bool usable = true;             // the engine has it, and it was stored in order
    bool records = true;            // it marks what is written
    bool busy = false;              // something is being done to it
    bool changed = false;           // in this round, or the disk was, for sure
    std::set<uint64_t> marks;       // granules that have to be marked
    std::set<uint64_t> idle_marks;  // these only when it has changed: zeroes, or discards, of this
                                    // round, which may have found nothing to do
    std::vector<Attempt> attempts;  // these, too, should they have left something
    uint64_t found = 0;             // granules that the image has marked
  };
  Range draw_range();
  Range draw_clusters();
  Operation draw_operation();
  void start_operation(Operation operation, io::TaskGroup& group);
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
  // amendments.cc
  void start_amendment(io::TaskGroup& group);
  io::Task<void> amend(std::string option, std::string value);
  io::Task<void> rename_backing();
  // What needs that nothing else is going on, and leaves an image that may have to be opened again.
  io::Task<void> change_alone(bool may_commit);
  io::Task<void> change_refcount_width();
  io::Task<void> commit(bool empty);
  // reopens.cc
  io::Task<void> reopen();
  io::Task<Result<void>> set_read_only(bool read_only);
  void inspect_header(const Qcow2Verifier& verifier);
  // The image below the top, into which was committed.
  void inspect_base();
  // bitmaps.cc
  [[nodiscard]] bool bitmaps_busy() const;
  void start_bitmap(io::TaskGroup& group);
  io::Task<void> add_bitmap(std::string name, uint64_t granularity);
  io::Task<void> remove_bitmap(std::string name);
  io::Task<void> clear_bitmap(std::string name);
  io::Task<void> enable_bitmap(std::string name, bool on);
  // A change of the disk has ended; `number` when a part of it may be recognised.
  // With FUA it may have been there for a while, so that a restart since `restarts` has come after
  // it.
  void mark_bitmaps(Range range, WriteNumber number, bool succeeded, uint64_t restarts);
  void bitmaps_stored();
  void resize_bitmaps(uint64_t length);
  void inspect_bitmaps(const Qcow2Verifier& verifier, std::span<const std::byte> guest,
                       Round::Ending ending);
  [[nodiscard]] static std::optional<uint64_t> missing_mark(const Bitmap& bitmap,
                                                            const Qcow2Verifier::Bitmap& found,
                                                            std::span<const std::byte> guest);
  void compare_bitmaps();
  // Notes the end of an operation and judges its error.
  void ended(std::string_view what, Range range, const Result<void>& result);

  // inspection.cc: what is found afterwards.
  io::Task<void> inspect(const Round& round);
  void inspect_bytes(Round::Ending ending);
  void inspect_snapshots(const Qcow2Verifier& verifier);
  // Of the image that has so many below it.
  [[nodiscard]] std::function<void(uint64_t, std::span<std::byte>)> backing_reader(
      std::size_t depth) const;
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
  std::map<std::string, Bitmap> bitmaps_;  // by name, of which each is used once
  unsigned next_bitmap_ = 1;
  bool adding_bitmap_ = false;
  uint64_t restarts_ = 0;     // how often a bitmap was made, cleared or switched on
  bool downgrading_ = false;  // to the version that has no bitmaps
  // What the header may say, with an amendment that did not end well.
  std::set<uint32_t> versions_;
  std::set<uint32_t> refcount_orders_;
  std::set<bool> lazy_;
  std::set<std::string> backing_names_;
  bool retired_ = false;       // the image has to be opened again
  bool base_changed_ = false;  // by a commit
  uint64_t faults_before_ = 0;
  bool failed_ = false;  // some operation of this round has failed
  uint64_t leaks_ = 0;   // known from earlier rounds
  uint64_t leaks_in_file_ = 0;
  bool dirty_ = false;  // the image: its refcounts were postponed
  HistoryResult result_;
};

}  // namespace cairn::testing
