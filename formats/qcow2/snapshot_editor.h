// SnapshotEditor: creates, applies and deletes the snapshots inside an image.
//
// Every operation builds the tables of the state that it leads to beside those in use and switches
// with one write of the header (table_switch.h). So none can be seen half done, and in every state
// that a power cut can leave, counts and "copied" flags agree.
//
//   snapshot_create.cc   the active tables become shared: counts rise, flags go
//   snapshot_apply.cc    the snapshot's tables become the active ones
//   snapshot_delete.cc   counts drop; what the disk alone uses again gets its flags back
//   snapshot_editor.cc   what they share: reading tables, protecting what they hold
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/qcow2/mapping.h"
#include "formats/qcow2/snapshot_table.h"
#include "formats/qcow2/table_switch.h"

namespace cairn::qcow2 {

class SnapshotEditor {
 public:
  SnapshotEditor(Image& image, Refcounts& refcounts, Reclaim& reclaim, Mapping& mapping,
                 Writeback& writeback, io::AsyncMutex& writeout)
      : image_(image),
        refcounts_(refcounts),
        reclaim_(reclaim),
        mapping_(mapping),
        writeback_(writeback),
        writeout_(writeout) {}

  // Reads the table. After a failure changes are refused with the same error.
  [[nodiscard]] io::Task<Result<void>> load();
  // Keeps guest data away from the table and from the L1 tables it names.
  void protect();

  [[nodiscard]] const SnapshotTable& table() const { return table_; }

  // No request is in flight, and everything has been written out. On success the new state is
  // durable; a failure leaves the image as it was. ENOENT when there is no such snapshot.
  [[nodiscard]] io::Task<Result<void>> create(block::Snapshot info);
  [[nodiscard]] io::Task<Result<void>> apply(std::string id);
  [[nodiscard]] io::Task<Result<void>> remove(std::string id);
  // Of a read-only image: has the mapping show the snapshot. ENOENT as above.
  [[nodiscard]] io::Task<Result<void>> show(std::string id);
  // Whether an L2 entry of some snapshot is a wanted one.
  [[nodiscard]] io::Task<Result<bool>> any_entry(bool (*wanted)(uint64_t entry));

 private:
  using Outcome = io::Task<Result<void>>;
  // What one L2 table holds, read from the file.
  using TableBytes = std::vector<std::byte>;
  // Beyond this many, runs of clusters are counted before more are collected.
  static constexpr std::size_t kBatch = 256 << 10;

  [[nodiscard]] Outcome ready();
  [[nodiscard]] TableSwitch make_switch() {
    return {image_, refcounts_, reclaim_, writeback_, writeout_};
  }
  [[nodiscard]] uint64_t cluster(uint64_t host_offset) const {
    return host_offset >> image_.geometry().cluster_bits;
  }

  // Entries of a snapshot's L1 table. EINVAL when they can not be right.
  [[nodiscard]] io::Task<Result<std::vector<uint64_t>>> read_l1(SnapshotEntry entry);
  [[nodiscard]] Outcome read_l2(uint64_t host_offset, TableBytes& bytes);
  // Adds the host clusters that an L2 entry refers to.
  [[nodiscard]] Result<void> add_references(uint64_t entry, ClusterRuns& runs) const;
  [[nodiscard]] Result<void> add_table_references(const TableBytes& l2, ClusterRuns& runs) const;
  [[nodiscard]] static uint64_t count_tables(const std::vector<uint64_t>& l1);
  [[nodiscard]] static TableBytes serialize_l1(const std::vector<uint64_t>& l1);
  void protect(const SnapshotEntry& entry, uint64_t& budget);
  void unprotect();

  // snapshot_create.cc
  [[nodiscard]] Outcome create_in(TableSwitch& change, block::Snapshot info);
  [[nodiscard]] Outcome share_tables(TableSwitch& change, std::vector<uint64_t>& l1);

  // snapshot_apply.cc
  [[nodiscard]] Outcome apply_in(TableSwitch& change, SnapshotEntry entry);
  // Of two sets of references, those that only one has.
  struct Difference {
    ClusterRuns raised;
    ClusterRuns lowered;
  };
  [[nodiscard]] Outcome compare_tables(uint64_t from, uint64_t to, Difference& difference);
  [[nodiscard]] Outcome count(Difference& difference, Refcounts::Lowered& lowered);

  // snapshot_delete.cc
  [[nodiscard]] Outcome remove_in(TableSwitch& change, std::size_t index);
  [[nodiscard]] Outcome drop_references(std::vector<uint64_t> l1, Refcounts::Lowered& lowered);
  [[nodiscard]] Outcome own_tables(TableSwitch& change, Refcounts::Lowered& lowered,
                                   std::vector<uint64_t>& l1);
  [[nodiscard]] Result<bool> own_entries(Refcounts::Lowered& lowered, TableBytes& l2) const;
  [[nodiscard]] Result<void> check_freed(const Refcounts::Lowered& lowered) const;

  // Writes the table of snapshots as it shall be; its place, 0 when it is empty.
  struct StoredTable {
    uint64_t offset = 0;
    TableBytes bytes;
  };
  // The last step of a change: writes the snapshot table, and has the header name it and the L1
  // table that was written to `l1_offset`.
  [[nodiscard]] io::Task<Result<void>> switch_tables(TableSwitch& change, SnapshotTable table,
                                                     const StoredTable& stored,
                                                     std::vector<uint64_t> l1, uint64_t l1_offset);

  Image& image_;
  Refcounts& refcounts_;
  Reclaim& reclaim_;
  Mapping& mapping_;
  Writeback& writeback_;
  io::AsyncMutex& writeout_;
  SnapshotTable table_;
  Result<void> loaded_;
  struct Range {
    uint64_t offset;
    uint64_t length;  // bytes
  };
  std::vector<Range> protected_;  // L1 tables that the overlap guard knows
};

}  // namespace cairn::qcow2
