// BackupJob: saves the state that a disk has when the job is made.
//
// A copy-before-write filter above the disk (filters/copy_before_write.h) sees to it that the state
// can be had as long as the job needs it; the job copies what nobody has overwritten. Every write
// of others first saves what the backup still needs.
//
// The bitmap, when there is one, gathers what changes from that moment on aside, and is in use
// until the job ends. What becomes of it then:
//
//               succeeded                      failed, or cancelled
//   on-success  marks what changed meanwhile   as if there had been no backup
//   always      marks what changed meanwhile   the same, and what was not copied
//   never       as if there had been no backup
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "block/dirty_bitmap.h"
#include "filters/copy_before_write.h"
#include "jobs/copy_job.h"
#include "schema/types_block_copy.h"

namespace cairn::jobs {

struct BackupSettings {
  CopySettings copying;
  std::shared_ptr<block::Node> source;
  std::shared_ptr<block::Node> target;
  schema::MirrorSyncMode sync = schema::MirrorSyncMode::kFull;
  block::DirtyBitmap* bitmap = nullptr;  // of the source
  schema::BitmapSyncMode bitmap_mode = schema::BitmapSyncMode::kOnSuccess;
  bool compressed = false;
  bool break_snapshot = false;  // what gives way when old data can not be saved; else the write
  bool discard_source = false;
  uint64_t chunk = 0;          // bytes; 0: the usual
  uint64_t least_granule = 0;  // bytes; 0: the usual
  std::optional<std::string> filter_name;
};

class BackupJob final : public CopyJob {
 public:
  // Whoever asks is inside Graph::Alone: the state that is saved is that of this moment. The job is
  // to be added to `list`, to which it was announced. Nothing has changed after a failure.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Job>>> make(JobList& list,
                                                                   JobSettings settings,
                                                                   block::Graph& graph,
                                                                   BackupSettings wanted);

  // Use make().
  BackupJob(JobSettings settings, block::Graph& graph, BackupSettings wanted,
            std::shared_ptr<block::Node> filter);

 private:
  [[nodiscard]] io::Task<Result<void>> run() override;
  [[nodiscard]] io::Task<void> commit() override;
  [[nodiscard]] io::Task<void> abort() override;
  [[nodiscard]] io::Task<void> clean() override;

  void begin();
  void choose_marked();
  [[nodiscard]] io::Task<void> leave_out_what_is_below();
  [[nodiscard]] io::Task<Result<void>> save_on_demand();
  [[nodiscard]] Result<void> snapshot_state() const;
  [[nodiscard]] io::Task<Result<void>> flush_target();
  [[nodiscard]] io::Task<Result<void>> flush_once();
  void mark_uncopied();
  [[nodiscard]] block::BlockCopy& copy() const { return cbw_.copy(); }
  // The edge that keeps the filter.
  [[nodiscard]] block::Edge& entrance() const { return *kept().front(); }

  BackupSettings wanted_;
  std::shared_ptr<block::Node> filter_;
  filters::CopyBeforeWrite& cbw_;
  std::optional<block::DirtyBitmap::Use> use_;
};

}  // namespace cairn::jobs
