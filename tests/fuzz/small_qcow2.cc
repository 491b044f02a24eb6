#include "tests/fuzz/small_qcow2.h"

#include <algorithm>

#include "formats/qcow2/layout.h"
#include "formats/qcow2/refcounts.h"

namespace cairn::testing {

SmallQcow2::SmallQcow2(const Shape& shape)
    : shape_(shape), bytes_(shape.clusters << shape.cluster_bits) {
  const uint64_t l2_entry = (shape.incompatible & qcow2::kIncompatibleExtendedL2) != 0
                                ? qcow2::kL2ExtendedEntryBytes
                                : qcow2::kL2EntryBytes;
  const uint64_t table_covers = at(1) / l2_entry * at(1);
  put<uint32_t>(0, qcow2::kMagic);
  put<uint32_t>(4, 3);
  put<uint32_t>(20, shape.cluster_bits);
  put<uint64_t>(qcow2::header_offset::kSize, shape.size);
  put<uint32_t>(qcow2::header_offset::kL1Size,
                static_cast<uint32_t>(div_round_up(shape.size, table_covers)));
  put<uint64_t>(qcow2::header_offset::kL1Size + 4, at(kL1));
  put<uint64_t>(qcow2::header_offset::kRefcountTable, at(kRefcountTable));
  put<uint32_t>(qcow2::header_offset::kRefcountTable + 8, 1);
  put<uint64_t>(qcow2::header_offset::kIncompatible, shape.incompatible);
  put<uint64_t>(qcow2::header_offset::kAutoclear, shape.autoclear);
  put<uint32_t>(96, shape.refcount_order);
  put<uint32_t>(100, static_cast<uint32_t>(kExtensions));
  put<uint64_t>(at(kRefcountTable), at(kRefcountBlock));
  for (uint64_t i = 0; i < shape.clusters; ++i) {
    qcow2::store_refcount(bytes_.data() + at(kRefcountBlock), shape.refcount_order, i, 1);
  }
}

void SmallQcow2::fill(uint64_t offset, uint64_t end, std::span<const std::byte> input) {
  std::copy_n(input.begin(), std::min<uint64_t>(input.size(), end - offset),
              bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
}

}  // namespace cairn::testing
