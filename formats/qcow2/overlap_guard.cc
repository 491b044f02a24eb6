#include "formats/qcow2/overlap_guard.h"

#include <algorithm>

#include "base/bytes.h"

namespace cairn::qcow2 {

bool OverlapChecks::covers(MetadataKind kind) const {
  switch (kind) {
    case MetadataKind::kHeader:
      return main_header;
    case MetadataKind::kActiveL1:
      return active_l1;
    case MetadataKind::kActiveL2:
      return active_l2;
    case MetadataKind::kRefcountTable:
      return refcount_table;
    case MetadataKind::kRefcountBlock:
      return refcount_block;
    case MetadataKind::kSnapshotTable:
      return snapshot_table;
    case MetadataKind::kInactiveL1:
      return inactive_l1;
    case MetadataKind::kInactiveL2:
      return inactive_l2;
    case MetadataKind::kBitmapDirectory:
      return bitmap_directory;
    case MetadataKind::kNone:
      break;
  }
  return false;
}

void OverlapGuard::protect(MetadataKind kind, uint64_t host_offset, uint64_t length) {
  if (!checks_.covers(kind) || length == 0) {
    return;
  }
  if (map_.overlaps(host_offset, length)) [[unlikely]] {
    const uint64_t cluster_size = uint64_t{1} << cluster_bits_;
    for (uint64_t at = align_down(host_offset, cluster_size); at < host_offset + length;
         at += cluster_size) {
      if (map_.overlaps(at, 1)) {
        contested_.add(at, 1);
      }
    }
  }
  map_.add(host_offset, length);
}

void OverlapGuard::unprotect(MetadataKind kind, uint64_t host_offset, uint64_t length) {
  if (!checks_.covers(kind) || length == 0) {
    return;
  }
  if (!contested(host_offset, length)) {
    map_.remove(host_offset, length);
    return;
  }
  const uint64_t cluster_size = uint64_t{1} << cluster_bits_;
  for (uint64_t at = align_down(host_offset, cluster_size); at < host_offset + length;
       at += cluster_size) {
    if (!contested_.overlaps(at, 1)) {
      map_.remove(at, 1);
    }
  }
}

}  // namespace cairn::qcow2
