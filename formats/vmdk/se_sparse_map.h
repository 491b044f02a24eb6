// SeSparseMap: where the grains of a space-efficient sparse extent lie: its grain directory, and a
// bounded cache of its grain tables. It only reads.
//
// Entries count tables and grains instead of saying where they are, and their upper bits say what
// they are; README.md has the layout. What an entry of no known kind stands for can not be told:
// such a part of the disk fails to be read.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "block/extent.h"
#include "block/node.h"
#include "formats/vmdk/se_sparse_header.h"
#include "io/mutex.h"
#include "io/task.h"

namespace cairn::vmdk {

class SeSparseMap {
 public:
  // `file` outlives this. The header was parsed.
  SeSparseMap(block::Edge& file, const SeSparseHeader& header);

  // Reads the directory. Call it once, before anything else. EIO, EFBIG.
  [[nodiscard]] io::Task<Result<void>> load();

  // What lies at `offset` of the extent, as far as `length` and its table go. False when a table
  // has to be read to tell, or an entry is damaged.
  [[nodiscard]] bool try_map(uint64_t offset, uint64_t length, block::Extent& extent);
  // The same with all that has to be read. EIO for damaged entries.
  [[nodiscard]] io::Task<Result<block::Extent>> map(uint64_t offset, uint64_t length);

 private:
  static constexpr uint64_t kTableSpan = kSeTableEntries * kSeGrain;
  static constexpr std::size_t kMostTables = 256;  // 8 MiB, for 4 GiB of the disk

  struct Table {
    std::vector<uint64_t> entries;
    uint64_t used = 0;  // when it was looked at last
  };
  // An entry of a grain table.
  struct Grain {
    enum class Kind : uint8_t { kHole, kZero, kData, kDamaged };
    Kind kind = Kind::kHole;
    uint64_t host = 0;  // bytes of the file, of data
  };

  [[nodiscard]] io::Task<Result<void>> read_entries(uint64_t offset, uint64_t count,
                                                    std::vector<uint64_t>& entries);
  [[nodiscard]] io::Task<Result<std::shared_ptr<Table>>> fetch(uint64_t index);
  [[nodiscard]] const std::shared_ptr<Table>* find(uint64_t index);
  [[nodiscard]] Result<uint64_t> table_place(uint64_t index) const;
  [[nodiscard]] Grain parse_grain(uint64_t entry) const;
  [[nodiscard]] bool map_grains(const Table& table, uint64_t offset, uint64_t length,
                                block::Extent& extent) const;
  void make_room();

  block::Edge& file_;
  const SeSparseHeader header_;
  const uint64_t tables_begin_;      // bytes; UINT64_MAX when there is no such place
  const uint64_t grains_begin_;      // the same
  std::vector<uint64_t> directory_;  // up to the last entry that is not zero
  std::unordered_map<uint64_t, std::shared_ptr<Table>> tables_;  // by their index in the directory
  uint64_t clock_ = 0;
  io::AsyncMutex reading_;
};

}  // namespace cairn::vmdk
