// MetadataMap: which host clusters hold metadata, so that guest data never lands on them.
//
// A damaged image may map a guest cluster onto a table, or count a table's cluster as free. Asked
// for every in-place extent, so the answer is one probe of a small hash table of bit maps.
#pragma once

#include <cstdint>
#include <vector>

namespace cairn::qcow2 {

// Which structures are protected; the values of the `overlap-check` option.
struct OverlapChecks {
  bool main_header = true;
  bool active_l1 = true;
  bool active_l2 = true;
  bool refcount_table = true;
  bool refcount_block = true;
  bool snapshot_table = true;
  bool inactive_l1 = true;
  bool inactive_l2 = false;
};

class MetadataMap {
 public:
  explicit MetadataMap(uint32_t cluster_bits) : cluster_bits_(cluster_bits), slots_(16) {}

  // Byte ranges, rounded outwards to clusters; offsets below 2^63.
  void add(uint64_t host_offset, uint64_t length);
  void remove(uint64_t host_offset, uint64_t length);
  [[nodiscard]] bool overlaps(uint64_t host_offset, uint64_t length) const;

 private:
  // Tables lie far apart as a rule, so a slot is small: 64 clusters.
  static constexpr uint64_t kBits = 64;
  struct Slot {
    uint64_t key = 0;  // chunk number plus one; 0: free
    uint64_t bits = 0;
  };

  [[nodiscard]] const Slot* find(uint64_t chunk) const;
  Slot& find_or_add(uint64_t chunk);
  void grow();

  uint32_t cluster_bits_;
  uint64_t used_ = 0;
  std::vector<Slot> slots_;  // open addressing, a power of two, at most three quarters full
};

}  // namespace cairn::qcow2
