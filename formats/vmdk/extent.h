// VmdkExtent: a file that holds a range of the disk, as it is (flat), in grains (sparse), or in
// those of space-efficient extents.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "block/extent.h"
#include "block/node.h"
#include "formats/vmdk/codec.h"
#include "formats/vmdk/grain_tables.h"
#include "formats/vmdk/header.h"
#include "formats/vmdk/se_sparse_map.h"
#include "io/task.h"

namespace cairn::vmdk {

struct VmdkExtent {
  block::Edge* file = nullptr;
  std::string type;    // as the descriptor calls it; empty for an image that is one file
  uint64_t begin = 0;  // bytes of the disk
  uint64_t end = 0;

  // Flat ones.
  uint64_t flat_offset = 0;  // bytes of the file before the extent's first

  // Sparse ones: null for flat ones.
  std::unique_ptr<GrainTables> tables;
  SparseHeader header;
  uint64_t grain = 0;                 // bytes; of space-efficient ones as well
  std::unique_ptr<GrainCodec> codec;  // null: grains are stored as they are
  // Of writers: where the next grain goes, and from where on the file had nothing when it was
  // opened.
  uint64_t next_free = 0;
  uint64_t unwritten_from = 0;

  // Space-efficient ones, which are only read.
  std::unique_ptr<SeSparseMap> se_map;

  [[nodiscard]] bool sparse() const { return tables != nullptr; }
  [[nodiscard]] uint64_t table_span() const { return grain * header.table_entries; }
  [[nodiscard]] uint64_t table_index(uint64_t offset) const {
    return (offset - begin) / table_span();
  }
  [[nodiscard]] uint64_t entry_index(uint64_t offset) const {
    return (offset - begin) % table_span() / grain;
  }
  [[nodiscard]] uint64_t grain_begin(uint64_t offset) const {
    return begin + (offset - begin) / grain * grain;
  }
  [[nodiscard]] bool zeroed(uint32_t entry) const {
    return entry == kEntryZeroed && header.has(kFlagZeroedGrain);
  }
  [[nodiscard]] bool hole(uint32_t entry) const { return entry == kEntryHole; }
  [[nodiscard]] bool has_data(uint32_t entry) const { return !hole(entry) && !zeroed(entry); }

  // What lies at `offset`, as far as `length`, the extent and `table`, which is the offset's, go.
  [[nodiscard]] block::Extent map_flat(uint64_t offset, uint64_t length) const;
  [[nodiscard]] block::Extent map_grains(const GrainTable& table, uint64_t offset,
                                         uint64_t length) const;
};

// A sparse extent in `file`, whose header was parsed, at `begin` of the disk. EINVAL, ENOTSUP,
// EFBIG when it can not be used.
[[nodiscard]] io::Task<Result<VmdkExtent>> open_sparse_extent(block::Edge& file,
                                                              SparseHeader header, uint64_t begin,
                                                              bool writable);

// A space-efficient extent in `file`. EINVAL, ENOTSUP, EFBIG when it can not be used.
[[nodiscard]] io::Task<Result<VmdkExtent>> open_se_sparse_extent(block::Edge& file, uint64_t begin);

}  // namespace cairn::vmdk
