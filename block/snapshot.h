// Internal snapshots: what a format tells about those inside an image, and how they are found.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace cairn::block {

struct Snapshot {
  std::string id;              // a number as a rule; the format chooses it
  std::string name;            // need not be the only one of its kind
  uint64_t vm_state_size = 0;  // bytes of a machine's state that were saved with it
  uint64_t date_seconds = 0;   // since 1970
  uint32_t date_nanoseconds = 0;
  uint64_t vm_clock_nanoseconds = 0;
  std::optional<uint64_t> icount;  // instructions that the machine had run
  uint64_t disk_size = 0;          // bytes
};

// The first with this name; null when there is none.
[[nodiscard]] const Snapshot* find_snapshot_by_name(std::span<const Snapshot> snapshots,
                                                    std::string_view name);
// The first with this id or else, when there is none, with this name.
[[nodiscard]] const Snapshot* find_snapshot(std::span<const Snapshot> snapshots,
                                            std::string_view id_or_name);

}  // namespace cairn::block
