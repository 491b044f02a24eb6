// The snapshot table of an image (section "Snapshots"): entries of variable length, each with the
// place of an L1 table of its own. Read with every length checked; what an entry holds beyond the
// fields that are known here is kept and written again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/snapshot.h"
#include "formats/qcow2/header.h"
#include "io/task.h"

namespace cairn::block {
class Edge;
}

namespace cairn::qcow2 {

// An entry; without a disk size of its own it has that of the image.
struct SnapshotEntry : block::Snapshot {
  // What version 3 asks for as extra data: the sizes of the machine state and of the disk.
  static constexpr uint32_t kExtraOfVersion3 = 16;
  static constexpr uint32_t kMaxExtra = 1024;

  uint64_t l1_offset = 0;          // as it stands in the table; may point anywhere
  uint64_t l1_entries = 0;         // may be any number of 32 bits
  uint32_t extra_length = 0;       // bytes
  uint64_t length = 0;             // bytes of the entry with its padding
  std::vector<std::byte> unknown;  // extra data behind the known fields
};

// What becomes of extra data that is longer than kMaxExtra.
enum class ExcessExtra : uint8_t { kRefuse, kDiscard };

// `file` outlives the task, `header` is checked. EFBIG when an entry has too much extra data,
// unless the rest of it is to be discarded, or the table is longer than it may be. What lies beyond
// the end of the file reads as zeroes.
[[nodiscard]] io::Task<Result<std::vector<SnapshotEntry>>> read_snapshot_table(
    block::Edge& file, const Header& header, ExcessExtra excess = ExcessExtra::kRefuse);

// The snapshots of an open image, in memory.
class SnapshotTable {
 public:
  // Errors are those of read_snapshot_table().
  [[nodiscard]] io::Task<Result<void>> load(block::Edge& file, const Header& header);

  [[nodiscard]] const std::vector<SnapshotEntry>& entries() const { return entries_; }
  [[nodiscard]] std::vector<block::Snapshot> list() const;
  // The index of the first with this id; nothing found: entries().size().
  [[nodiscard]] std::size_t find(const std::string& id) const;
  // An id that no entry has: one more than the greatest number.
  [[nodiscard]] std::string next_id() const;

  void add(SnapshotEntry entry) { entries_.push_back(std::move(entry)); }
  void remove(std::size_t index) {
    entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  // The table as it is stored. EFBIG when it is beyond the limits.
  [[nodiscard]] Result<std::vector<std::byte>> serialize() const;
  // Bytes of the table in the file, as it was read or last written.
  [[nodiscard]] uint64_t length_on_disk() const { return length_on_disk_; }
  void set_length_on_disk(uint64_t length) { length_on_disk_ = length; }

 private:
  std::vector<SnapshotEntry> entries_;
  uint64_t length_on_disk_ = 0;
};

}  // namespace cairn::qcow2
