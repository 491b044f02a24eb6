// MetadataMap: a set of host clusters, of which neighbours are often members together.
//
// Asked for every in-place extent, so the answer is one probe of a small hash table of bit maps.
#pragma once

#include <cstdint>
#include <vector>

namespace cairn::qcow2 {

class MetadataMap {
 public:
  explicit MetadataMap(uint32_t cluster_bits) : cluster_bits_(cluster_bits), slots_(16) {}

  // Byte ranges, rounded outwards to clusters; offsets below 2^63.
  void add(uint64_t host_offset, uint64_t length);
  void remove(uint64_t host_offset, uint64_t length);
  [[nodiscard]] bool empty() const { return used_ == 0; }  // nothing was ever added
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
