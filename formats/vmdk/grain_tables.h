// GrainTables: the grain directory of a sparse extent, and a bounded cache of its grain tables.
//
// Entries change in memory, at once, when the data they point to has been written; write_out()
// makes them durable, after the data. Where an extent has a second set of tables, that is written
// as the first is, and never read.
//
// A table stays where it is while somebody holds it. One that has changes, or is held, is not
// dropped from the cache, so there is never a second one for the same place.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "block/node.h"
#include "formats/vmdk/header.h"
#include "io/mutex.h"
#include "io/task.h"

namespace cairn::vmdk {

struct GrainTable {
  uint64_t index = 0;  // in the directory
  std::vector<uint32_t> entries;
  uint64_t changed = 0;  // a bit for each sector of entries
  uint64_t used = 0;     // when it was looked at last

  [[nodiscard]] uint64_t bytes() const { return entries.size() * kTableEntryBytes; }
};

class GrainTables {
 public:
  // `file` outlives this. The header was checked.
  GrainTables(block::Edge& file, const SparseHeader& header);

  // Reads the directories. Call it once, before anything else.
  [[nodiscard]] io::Task<Result<void>> load(bool writable);

  // A table in the cache; null when it has to be fetched. Where the directory has none it is empty.
  [[nodiscard]] GrainTable* find(uint64_t index);
  [[nodiscard]] io::Task<Result<std::shared_ptr<GrainTable>>> fetch(uint64_t index);
  [[nodiscard]] bool present(uint64_t index) const {
    return index < directory_.size() && directory_[index] != 0;
  }
  [[nodiscard]] uint64_t table_count() const { return directory_entries_; }

  // Changes an entry of a table that is there.
  void set(GrainTable& table, uint64_t entry, uint32_t value);
  // Many tables have changes: write_out() before there are more.
  [[nodiscard]] bool pressed() const { return changed_tables_ >= kMostChanged; }
  [[nodiscard]] bool durable() const { return changed_tables_ == 0 && writing_ == 0; }

  // Flushes the file; then writes the entries as they were when this began, and flushes again.
  // After a failure they count as changed as before.
  [[nodiscard]] io::Task<Result<void>> write_out();

  // EIO when the bytes of the file hold header, descriptor or tables: nothing of the guest's may be
  // written there, whatever an entry says.
  [[nodiscard]] Result<void> check_data_place(uint64_t offset, uint64_t length) const;

 private:
  static constexpr uint64_t kCacheBytes = 8 << 20;
  static constexpr uint64_t kMostChanged = 512;

  // Entries of one table that are on their way to the disk.
  struct Run {
    std::shared_ptr<GrainTable> table;
    uint64_t sectors = 0;          // which, as bits
    std::vector<std::byte> bytes;  // of the whole table
  };

  [[nodiscard]] io::Task<Result<std::vector<uint32_t>>> read_entries(uint64_t offset,
                                                                     uint64_t count);
  [[nodiscard]] Result<void> prepare_writing();
  [[nodiscard]] std::vector<Run> take_changes();
  [[nodiscard]] io::Task<Result<void>> write_runs(const std::vector<Run>& runs);
  [[nodiscard]] io::Task<Result<void>> write_run(const Run& run, uint64_t place);
  void make_room();

  block::Edge& file_;
  const SparseHeader header_;
  const uint64_t directory_entries_;
  std::vector<uint32_t> directory_;  // up to the last one that is not zero
  std::vector<uint32_t> redundant_;
  uint64_t metadata_end_ = 0;           // bytes; of writers
  std::vector<uint64_t> table_places_;  // sectors, sorted; of all tables, for writers
  std::unordered_map<uint64_t, std::shared_ptr<GrainTable>> tables_;
  GrainTable absent_;
  uint64_t clock_ = 0;
  uint64_t changed_tables_ = 0;
  uint64_t writing_ = 0;
  io::AsyncMutex reading_;
  io::AsyncMutex writeout_;
};

}  // namespace cairn::vmdk
