// The snapshot table of an image (section "Snapshots"): reading it, with every length checked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/qcow2/header.h"
#include "io/task.h"

namespace cairn::block {
class Edge;
}

namespace cairn::qcow2 {

struct SnapshotEntry {
  // What version 3 asks for as extra data: the sizes of the machine state and of the disk.
  static constexpr uint32_t kExtraOfVersion3 = 16;
  static constexpr uint32_t kMaxExtra = 1024;

  uint64_t l1_offset = 0;   // as it stands in the table; may point anywhere
  uint64_t l1_entries = 0;  // may be any number of 32 bits
  std::string id;
  std::string name;
  uint32_t extra_length = 0;  // bytes
  uint64_t length = 0;        // bytes of the entry with its padding
};

// `file` outlives the task, `header` is checked. EFBIG when an entry has too much extra data or the
// table is longer than it may be. What lies beyond the end of the file reads as zeroes.
[[nodiscard]] io::Task<Result<std::vector<SnapshotEntry>>> read_snapshot_table(
    block::Edge& file, const Header& header);

}  // namespace cairn::qcow2
