// SimulatedDisk: what a storage device holds, with a volatile write cache that a power cut loses.
//
// This is the state alone, without time: a request is a few steps, and whoever drives the disk
// decides how much passes between them.
//
//   begin_*()   the request was submitted; from now on a power cut may keep some of it
//   apply()     readers see it
//   complete()  it was acknowledged; a flush that is submitted from now on makes it durable
//
// Invariants
// - A flush makes durable what had completed before it was submitted, and nothing else.
// - What is not durable survives a power cut in part: every change on its own is kept, lost or torn
//   at sector granularity. Per sector the result is the durable content or that of any change
//   since, so that every reordering of unflushed writes is possible, too.
// - A sector is never torn: a change of a part of one carries the rest as it was visible when the
//   change was applied, as a page cache does.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "tests/support/random.h"
#include "tests/support/sparse_bytes.h"

namespace cairn::testing {

class SimulatedDisk {
 public:
  static constexpr uint64_t kSector = 512;
  using ChangeId = uint64_t;

  explicit SimulatedDisk(SparseBytes content = SparseBytes())
      : visible_(content), durable_(std::move(content)) {}

  [[nodiscard]] uint64_t size() const { return visible_.size(); }
  void read(uint64_t offset, std::span<std::byte> out) const { visible_.read(offset, out); }

  // Writes beyond the end grow the disk.
  ChangeId begin_write(uint64_t offset, std::span<const std::byte> data);
  // Makes a range read as zeroes, whether by writing or by punching a hole: as far as a power cut
  // is concerned there is no difference.
  ChangeId begin_zero(uint64_t offset, uint64_t length);
  ChangeId begin_resize(uint64_t size);

  void apply(ChangeId id);
  // With `durable` (FUA) the change has reached the medium before it is acknowledged.
  void complete(ChangeId id, bool durable = false);
  // The request failed and left no trace.
  void forget(ChangeId id);
  // The request failed and has changed some of its sectors.
  void apply_torn(ChangeId id, Random& random);

  // The changes that a flush submitted now has to make durable.
  [[nodiscard]] std::vector<ChangeId> begin_flush() const;
  void complete_flush(std::span<const ChangeId> changes);

  // One of the possible contents after a power cut now.
  [[nodiscard]] SparseBytes power_cut(Random& random) const;

  [[nodiscard]] const SparseBytes& visible() const { return visible_; }
  [[nodiscard]] const SparseBytes& durable() const { return durable_; }
  [[nodiscard]] std::size_t unflushed() const { return changes_.size(); }

 private:
  struct Range {
    uint64_t start;
    uint64_t end;
  };
  struct Change {
    enum class Kind : uint8_t { kWrite, kZero, kResize };
    ChangeId id;
    Kind kind;
    bool applied = false;
    bool completed = false;
    uint64_t offset = 0;
    uint64_t length = 0;
    std::vector<std::byte> data;  // kWrite
    // Parts that do not count: durable changes that came later lie there, or they were torn off.
    std::vector<Range> hidden;
  };

  Change& find(ChangeId id);
  // Widens a change to whole sectors with what is around it now.
  void widen(Change& change) const;
  // The parts of a change that are not hidden.
  [[nodiscard]] static std::vector<Range> effective(const Change& change,
                                                    std::vector<Range> hidden);
  static void put(SparseBytes& bytes, const Change& change, std::vector<Range> hidden);
  void make_durable(ChangeId id);
  [[nodiscard]] std::vector<Range> torn_sectors(const Change& change, Random& random) const;

  SparseBytes visible_;
  SparseBytes durable_;
  // Changes that are not durable: applied ones in the order they were applied, then the others.
  std::vector<Change> changes_;
  ChangeId next_id_ = 1;
};

}  // namespace cairn::testing
