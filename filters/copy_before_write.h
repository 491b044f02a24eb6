// CopyBeforeWrite: saves what is about to be overwritten in a target, so that the disk can be read
// as it was when the filter came: from the target what has been saved, from the filtered node the
// rest (block/snapshot_view.h).
//
// Invariants
// - Nothing is written to a granule of the filtered node before the granule is in the target, or
//   does not have to be; and not while somebody reads it for the snapshot.
// - When saving fails, or takes too long, either the write that needed it fails, or the snapshot is
//   lost: every read of it fails from then on, also those that were on their way.
//
// The "target" child takes what is saved. With a bitmap only what that marks belongs to the
// snapshot.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "block/block_copy.h"
#include "block/driver_table.h"
#include "block/snapshot_view.h"
#include "filters/filter_driver.h"
#include "io/task_group.h"
#include "io/timer.h"

namespace cairn::filters {

extern const block::DriverInfo kCopyBeforeWriteDriver;

class CopyBeforeWrite final : public FilterDriver, public block::SnapshotView {
 public:
  struct Settings {
    bool break_snapshot = false;  // what gives way when saving fails; else the write
    io::Duration timeout{};       // for saving; 0: none
    uint64_t granule = block::BlockCopy::kLeastGranule;
    bool discard_source = false;  // what has been saved is given up in the filtered node
  };

  // The edges are those of the driver's node. Everything belongs to the snapshot.
  CopyBeforeWrite(block::Edge& file, block::Edge& target, const Settings& settings);

  // Nobody needs the snapshot any more.
  void end() { over_ = true; }
  // Who is to hear that the snapshot is lost.
  void set_on_lost(std::function<void()> callback) { on_lost_ = std::move(callback); }
  // Only these granules, one bit each, belong to the snapshot.
  void restrict_to(const block::SparseBits& granules);

  [[nodiscard]] block::Permissions child_permissions(block::ChildRole role,
                                                     block::Permissions parents,
                                                     bool writable) const override;
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> close() override;
  [[nodiscard]] Result<bool> adopt_options(const block::NodeOptions& node,
                                           const schema::BlockdevOptions& options) override;

  [[nodiscard]] block::SnapshotView* snapshot_view() override { return this; }
  [[nodiscard]] io::Task<Result<void>> read_snapshot(uint64_t offset, io::IoVector data) override;
  [[nodiscard]] io::Task<Result<block::BlockStatus>> snapshot_status(uint64_t offset,
                                                                     uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> discard_snapshot(uint64_t offset, uint64_t length) override;
  [[nodiscard]] block::BlockCopy& copy() override { return copy_; }
  [[nodiscard]] Result<void> state() const override;

 private:
  struct Call;

  [[nodiscard]] bool must_save(uint64_t offset, uint64_t length) const {
    return !lost_ && !over_ && copy_.any_pending(offset, length);
  }
  [[nodiscard]] io::Task<Result<void>> save(uint64_t offset, uint64_t length);
  [[nodiscard]] io::Task<Result<void>> save_in_time(uint64_t offset, uint64_t length);
  [[nodiscard]] io::Task<void> run(std::shared_ptr<Call> call, uint64_t offset, uint64_t length);
  [[nodiscard]] io::Task<Result<void>> write_saved(uint64_t offset, io::IoVector data,
                                                   block::WriteFlags flags);
  [[nodiscard]] io::Task<Result<void>> zero_saved(uint64_t offset, uint64_t length,
                                                  block::ZeroFlags flags);
  [[nodiscard]] io::Task<Result<void>> discard_saved(uint64_t offset, uint64_t length);
  [[nodiscard]] Result<void> check_readable(uint64_t offset, uint64_t length) const;
  // Bytes from the offset, at most `length`, that are all in the target, or all are not.
  [[nodiscard]] uint64_t same_place(uint64_t offset, uint64_t length, bool& saved) const;

  block::Edge& target_;
  const Settings settings_;
  block::BlockCopy copy_;
  block::SparseBits readable_;  // granules of the snapshot that were not given up
  std::optional<Error> lost_;
  bool over_ = false;
  std::function<void()> on_lost_;
  io::TaskGroup late_;  // copies that somebody may have ceased to wait for
};

}  // namespace cairn::filters
