// OverlapGuard: which host clusters hold metadata that the `overlap-check` option protects, and
// where two structures of a damaged image claim the same cluster.
//
// Nothing is looked at when metadata is written: clusters are handed out, translated to and changed
// only after the guard was asked, which costs one probe of a hash table of bit maps.
//
// Invariant: a contested cluster stays protected until the image is closed, whoever gives it up.
#pragma once

#include <cstdint>
#include <utility>

#include "base/result.h"
#include "formats/qcow2/metadata_map.h"

namespace cairn::schema {
struct Qcow2OverlapChecks;
}

namespace cairn::qcow2 {

enum class MetadataKind : uint8_t {
  kHeader,
  kActiveL1,
  kActiveL2,
  kRefcountTable,
  kRefcountBlock,
  kSnapshotTable,
  kInactiveL1,
  kInactiveL2,
  kBitmapDirectory,
  kNone,  // the guest's data
};

// Which structures are protected; the values of the `overlap-check` option. The defaults are its
// template `cached`.
struct OverlapChecks {
  bool main_header = true;
  bool active_l1 = true;
  bool active_l2 = true;
  bool refcount_table = true;
  bool refcount_block = true;
  bool snapshot_table = true;
  bool inactive_l1 = true;
  bool inactive_l2 = false;
  bool bitmap_directory = true;

  [[nodiscard]] bool covers(MetadataKind kind) const;
};

class OverlapGuard {
 public:
  OverlapGuard(uint32_t cluster_bits, const OverlapChecks& checks)
      : cluster_bits_(cluster_bits),
        checks_(checks),
        map_(cluster_bits),
        inactive_l2_(cluster_bits),
        contested_(cluster_bits) {}

  [[nodiscard]] const OverlapChecks& checks() const { return checks_; }

  // Metadata of one kind lies in these bytes from now on, or does so no more. Without effect for
  // kinds that are not protected. Inactive L2 tables are set_inactive_l2()'s.
  void protect(MetadataKind kind, uint64_t host_offset, uint64_t length);
  void unprotect(MetadataKind kind, uint64_t host_offset, uint64_t length);

  // The tables of all snapshots, which may be the active ones, too.
  void set_inactive_l2(MetadataMap tables) { inactive_l2_ = std::move(tables); }
  [[nodiscard]] bool is_inactive_l2(uint64_t host_offset) const {
    return inactive_l2_.overlaps(host_offset, 1);
  }

  // What is not an L2 table of a snapshot lies there.
  [[nodiscard]] bool protects_structure(uint64_t host_offset, uint64_t length) const {
    return map_.overlaps(host_offset, length);
  }
  // Data must not be written there.
  [[nodiscard]] bool protects(uint64_t host_offset, uint64_t length) const {
    return protects_structure(host_offset, length) ||
           (!inactive_l2_.empty() && inactive_l2_.overlaps(host_offset, length));
  }
  // More than one structure lies there, so none of them may be written.
  [[nodiscard]] bool contested(uint64_t host_offset, uint64_t length) const {
    return !contested_.empty() && contested_.overlaps(host_offset, length);
  }
  // The same for a range that was not protected as one of its own.
  void contest(uint64_t host_offset, uint64_t length) { contested_.add(host_offset, length); }

 private:
  const uint32_t cluster_bits_;
  const OverlapChecks checks_;
  MetadataMap map_;
  MetadataMap inactive_l2_;
  MetadataMap contested_;
};

}  // namespace cairn::qcow2
