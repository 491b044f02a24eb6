// The bitmap of an extended L2 entry: what each of a cluster's 32 subclusters is (section "Extended
// L2 Entries"). Pure.
#pragma once

#include <bit>
#include <cstdint>

#include "formats/qcow2/layout.h"

namespace cairn::qcow2 {

// A subcluster that is neither is unallocated: ask the backing file.
enum class SubclusterKind : uint8_t { kUnallocated, kZero, kData };

// A mask with one bit each.
inline constexpr uint32_t kAllSubclusters = 0xffffffff;
static_assert(kSubclustersPerCluster == 32);

class SubclusterBitmap {
 public:
  SubclusterBitmap() = default;
  // As it is in the entry: bit x says that subcluster x has data in the host cluster, bit 32 + x
  // that it reads as zeroes.
  explicit constexpr SubclusterBitmap(uint64_t stored)
      : data_(static_cast<uint32_t>(stored)), zero_(static_cast<uint32_t>(stored >> 32)) {}
  [[nodiscard]] constexpr uint64_t stored() const { return uint64_t{zero_} << 32 | data_; }

  [[nodiscard]] static constexpr SubclusterBitmap all_data() {
    return SubclusterBitmap(uint64_t{kAllSubclusters});
  }
  [[nodiscard]] static constexpr SubclusterBitmap all_zero() {
    return SubclusterBitmap(uint64_t{kAllSubclusters} << 32);
  }
  [[nodiscard]] bool operator==(const SubclusterBitmap&) const = default;

  // Subclusters [begin, end) of the cluster.
  [[nodiscard]] static constexpr uint32_t range(uint32_t begin, uint32_t end) {
    const auto below = [](uint32_t bit) { return static_cast<uint32_t>((uint64_t{1} << bit) - 1); };
    return below(end) & ~below(begin);
  }

  [[nodiscard]] constexpr uint32_t data() const { return data_; }
  // Data and zeroes at once make no sense.
  [[nodiscard]] constexpr bool valid() const { return (data_ & zero_) == 0; }

  [[nodiscard]] constexpr SubclusterKind kind(uint32_t subcluster) const {
    const uint32_t bit = uint32_t{1} << subcluster;
    if ((data_ & bit) != 0) {
      return SubclusterKind::kData;
    }
    return (zero_ & bit) != 0 ? SubclusterKind::kZero : SubclusterKind::kUnallocated;
  }
  // How many subclusters from `begin` on are of one kind.
  [[nodiscard]] constexpr uint32_t run(uint32_t begin) const {
    const SubclusterKind first = kind(begin);
    uint32_t same = ~(data_ | zero_);
    if (first != SubclusterKind::kUnallocated) {
      same = first == SubclusterKind::kData ? data_ : zero_;
    }
    // What is shifted in ends the run, but for a run from subcluster 0 on, which has 32 at most.
    return static_cast<uint32_t>(std::countr_one(same >> begin));
  }

  constexpr void set_data(uint32_t mask) {
    data_ |= mask;
    zero_ &= ~mask;
  }
  constexpr void set_zero(uint32_t mask) {
    zero_ |= mask;
    data_ &= ~mask;
  }

 private:
  uint32_t data_ = 0;
  uint32_t zero_ = 0;
};

// Whether the two halves of an extended entry, not of a compressed cluster, go together.
[[nodiscard]] constexpr bool sensible(const Geometry& geometry, uint64_t l2_entry,
                                      SubclusterBitmap subclusters) {
  return subclusters.valid() && (geometry.has_place(l2_entry) || subclusters.data() == 0);
}

}  // namespace cairn::qcow2
