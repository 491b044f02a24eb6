// SnapshotView: what a driver offers that keeps the state of its disk at one moment for others to
// read, while the disk is written to. Offsets and lengths lie within the disk.
//
// All of it happens below the choke point of the driver's node: callers have a RequestScope on it.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "block/driver.h"
#include "io/iovector.h"
#include "io/task.h"

namespace cairn::block {

class BlockCopy;

class SnapshotView {
 public:
  SnapshotView() = default;
  SnapshotView(const SnapshotView&) = delete;
  SnapshotView& operator=(const SnapshotView&) = delete;
  virtual ~SnapshotView() = default;

  // EACCES for what does not belong to the snapshot, was given up, or is lost.
  [[nodiscard]] virtual io::Task<Result<void>> read_snapshot(uint64_t offset,
                                                             io::IoVector data) = 0;
  [[nodiscard]] virtual io::Task<Result<BlockStatus>> snapshot_status(uint64_t offset,
                                                                      uint64_t length) = 0;
  // Nobody will read it any more, and nothing has to be saved for it.
  [[nodiscard]] virtual io::Task<Result<void>> discard_snapshot(uint64_t offset,
                                                                uint64_t length) = 0;

  // How old data gets saved; for who wants all of it saved, and in which order.
  [[nodiscard]] virtual BlockCopy& copy() = 0;
  // Why the snapshot is lost; success as long as it is not.
  [[nodiscard]] virtual Result<void> state() const = 0;
};

}  // namespace cairn::block
