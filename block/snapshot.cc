#include "block/snapshot.h"

#include <algorithm>

namespace cairn::block {

const Snapshot* find_snapshot_by_name(std::span<const Snapshot> snapshots, std::string_view name) {
  const auto found = std::ranges::find(snapshots, name, &Snapshot::name);
  return found == snapshots.end() ? nullptr : &*found;
}

const Snapshot* find_snapshot(std::span<const Snapshot> snapshots, std::string_view id_or_name) {
  const auto found = std::ranges::find(snapshots, id_or_name, &Snapshot::id);
  return found == snapshots.end() ? find_snapshot_by_name(snapshots, id_or_name) : &*found;
}

}  // namespace cairn::block
