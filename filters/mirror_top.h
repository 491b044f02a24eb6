// MirrorTop: sees to it that a mirror learns of every change of the disk below, or makes it on the
// other side as well.
//
// Invariants, while it has somebody to tell
// - A change is marked when it is done, failed or not: a copy that was made meanwhile is made
// again.
// - While it writes to both sides it holds the granules locked: whatever overlaps has the same
// order
//   on both. What the target did not take is marked, and the write is none the worse for it.
#pragma once

#include <functional>
#include <utility>

#include "block/block_copy.h"
#include "block/driver_table.h"
#include "filters/filter_driver.h"

namespace cairn::filters {

// Neither is in a table: they are made by jobs alone.
extern const block::DriverInfo kMirrorTopDriver;
extern const block::DriverInfo kCommitTopDriver;

class MirrorTop final : public FilterDriver {
 public:
  using FilterDriver::FilterDriver;

  struct Observer {
    std::function<void()> changed;                          // something was marked
    std::function<void(uint64_t bytes)> written;            // and is not any more: it was written
    std::function<void(const Error& error)> target_failed;  // and was marked
  };

  // From now on; `copy`, which follows the source, is there until no request is in flight any more
  // after stop().
  void start(block::BlockCopy& copy, Observer observer);
  void stop() { copy_ = nullptr; }
  // Whether changes are made on both sides.
  void set_write_both(bool on) { write_both_ = on; }
  [[nodiscard]] bool writes_both() const { return write_both_; }

  [[nodiscard]] block::Permissions child_permissions(block::ChildRole role,
                                                     block::Permissions parents,
                                                     bool writable) const override;
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;

 private:
  // `change` is the request to the child, which has not begun.
  [[nodiscard]] io::Task<Result<void>> and_mark(io::Task<Result<void>> change, uint64_t offset,
                                                uint64_t length);
  [[nodiscard]] io::Task<Result<void>> write_to_both(uint64_t offset, io::IoVector data,
                                                     block::WriteFlags flags);
  [[nodiscard]] io::Task<Result<void>> zero_both(uint64_t offset, uint64_t length,
                                                 block::ZeroFlags flags);
  [[nodiscard]] io::RangeLock::LockAwaiter lock_granules(uint64_t offset, uint64_t length);
  void mark(uint64_t offset, uint64_t length);
  void settle(const Result<void>& on_target, uint64_t offset, uint64_t length);

  block::BlockCopy* copy_ = nullptr;
  Observer observer_;
  bool write_both_ = false;
};

}  // namespace cairn::filters
