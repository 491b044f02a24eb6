// Checker: compares the reference counts of a qcow2 image with what its tables refer to, and
// repairs what can be repaired without doubt.
//
// Every number in the image is hostile: offsets are taken only up to the end of the file, tables
// are read in pieces of a cluster, and the counts' memory is bounded.
//
// Nothing is written before all references have been counted, but for entries that mean nothing
// whatever comes of it. docs/durability.md has the order of a repair's writes; it holds that the
// image is no worse than before after an error or a power cut between any two of them, and that
// table sectors are not written where other metadata lies.
//
//   check.cc             the order of things; counting the references of L1 and L2 tables
//   check_extras.cc      references of snapshots, bitmaps and the encryption header
//   check_refcounts.cc   the stored counts: compared, and repaired in place
//   check_copied.cc      the COPIED flags: compared and repaired; writing table entries
//   refcount_rebuild     new refcount structures, when the old ones are not to be trusted
//
// Messages are those that people and scripts know from qemu-img.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/check.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/reference_counts.h"
#include "formats/qcow2/snapshot_table.h"
#include "formats/qcow2/subclusters.h"
#include "io/task.h"

namespace cairn::qcow2 {

class Checker {
 public:
  // `image` must be flushed, idle, and outlive the checker.
  Checker(Image& image, block::CheckOptions options);

  // EIO when a table can not be read, ENOMEM when the tables refer to too many places, EFBIG when
  // the snapshot table is beyond the limits or there is no end of findings.
  // EIO when the image can not be repaired, or not as far as `options` allow; the lines have said
  // why.
  [[nodiscard]] io::Task<Result<block::CheckResult>> run();

  // Something was written. What others have read of the image before is out of date then.
  [[nodiscard]] bool changed() const { return changed_; }

 private:
  using Outcome = io::Task<Result<void>>;

  struct L1Table {
    uint64_t offset = 0;
    uint64_t entries = 0;
    bool active = false;  // the current state of the disk, not a snapshot
  };

  // An L2 table that an L1 entry leads to.
  struct L2Table {
    uint64_t entry = 0;
    std::vector<std::byte> bytes;
    Result<void> read;
  };
  // The bytes of a table that have changed, from the first to the last one.
  struct Changes {
    std::size_t begin = SIZE_MAX;
    std::size_t end = 0;
    void note(std::size_t offset);
    [[nodiscard]] bool any() const { return begin < end; }
  };
  // What comparing the counts has found.
  struct Findings {
    int64_t corruptions = 0;
    int64_t leaks = 0;
    int64_t errors = 0;  // counts that can not be read
  };

  // Findings.
  void report(const std::string& line) const;
  void corruption(const std::string& line);
  [[nodiscard]] bool repairing() const { return options_.fix_leaks || options_.fix_errors; }

  [[nodiscard]] Outcome count_references();

  // References. Counting beyond the end of the file is a corruption, and counts nothing.
  [[nodiscard]] Result<void> count(uint64_t offset, uint64_t length,
                                   ReferenceCounts::Flag flag = ReferenceCounts::Flag::kNone);
  void note_beyond(uint64_t offset, uint64_t length);
  [[nodiscard]] Outcome count_l1(L1Table table);
  [[nodiscard]] Outcome count_l2_tables(const std::vector<uint64_t>& entries, bool active);
  io::Task<void> read_l2(L2Table& table);
  [[nodiscard]] Outcome count_l1_entry(L2Table& table, bool active);
  [[nodiscard]] Outcome count_l2(L2Table& table, bool active);
  struct L2Entry {
    uint64_t index = 0;  // in its table
    uint64_t value = 0;
    SubclusterBitmap subclusters;
  };
  [[nodiscard]] uint64_t plain_run(std::span<const std::byte> entries) const;
  [[nodiscard]] Result<void> count_plain(uint64_t first, uint64_t clusters, bool active,
                                         uint64_t& next_contiguous);
  [[nodiscard]] Result<void> count_l2_entry(const L2Entry& entry, bool active,
                                            uint64_t& next_contiguous);
  [[nodiscard]] ClusterKind kind_of(const L2Entry& entry) const;
  void check_subclusters(const L2Entry& entry, ClusterKind kind);
  [[nodiscard]] bool repairable_zero(const L2Entry& entry) const;
  [[nodiscard]] Result<void> count_compressed(uint64_t entry, bool active);

  [[nodiscard]] Outcome read_snapshots();
  [[nodiscard]] Result<std::vector<std::byte>> retire_snapshot_table();
  [[nodiscard]] Outcome count_snapshots();
  [[nodiscard]] Outcome count_bitmaps();
  [[nodiscard]] Outcome count_bitmap_table(uint64_t offset, uint64_t entries);
  [[nodiscard]] Result<void> count_crypt_header();

  // Stored counts.
  [[nodiscard]] Outcome read_refcount_table();
  [[nodiscard]] Result<void> check_refcount_table();
  [[nodiscard]] Result<void> check_block_place(uint64_t index);
  [[nodiscard]] Outcome compare(bool repair);
  [[nodiscard]] io::Task<Result<bool>> load_block(uint64_t index);
  [[nodiscard]] Outcome compare_block(uint64_t index, bool repair);
  void compare_unread(uint64_t first, uint64_t end);
  [[nodiscard]] uint64_t compare_cluster(uint64_t cluster, uint64_t stored, bool repair);
  [[nodiscard]] Result<void> check_effort() const;
  [[nodiscard]] io::Task<Result<std::optional<uint64_t>>> stored_count(uint64_t cluster);
  [[nodiscard]] Outcome repair_refcounts();
  [[nodiscard]] Outcome rebuild_refcounts();
  // Writes new refcount structures and, if it was repaired, a new snapshot table.
  [[nodiscard]] Outcome replace_structures();
  [[nodiscard]] Outcome finish_repair();

  // COPIED flags.
  [[nodiscard]] Outcome check_copied_flags();
  [[nodiscard]] Outcome check_copied_in_l1(uint64_t first, std::vector<std::byte>& bytes);
  [[nodiscard]] Outcome check_copied_in_l2(uint64_t offset);
  // The entry as it should be; tells what is wrong with it under the name `what`.
  [[nodiscard]] io::Task<Result<uint64_t>> check_copied(uint64_t entry, std::string what,
                                                        bool is_data);

  // 8-byte words of an L2 table.
  [[nodiscard]] uint64_t l2_words() const { return geometry_.cluster_size() / kL2EntryBytes; }
  // Reads a piece of a table as big-endian numbers, at most a cluster.
  [[nodiscard]] io::Task<Result<void>> read_table(uint64_t offset, uint64_t entries,
                                                  std::vector<std::byte>& bytes);
  // Writes what has changed in a table that begins at `offset`, unless other metadata lies there:
  // then the image is marked corrupt. `is_l1`: it is the active L1 table.
  [[nodiscard]] Outcome write_table(uint64_t offset, const std::vector<std::byte>& bytes,
                                    Changes changes);
  [[nodiscard]] Outcome refuse_overlap(uint64_t offset, uint64_t length, bool is_l1);
  void collect_metadata();
  [[nodiscard]] std::string describe(uint64_t offset, uint64_t length) const;

  Image& image_;
  const Header& header_;
  const Geometry geometry_;
  const block::CheckOptions options_;
  block::CheckResult result_;
  block::CheckResult::Fragmentation fragmentation_;
  const uint64_t refcount_max_;
  ReferenceCounts references_;
  // Those of them that come from the refcount table and its blocks.
  ReferenceCounts structure_;
  // Clusters behind the end of the file that something refers to: begin to end. Nothing may be put
  // there, or it would show through.
  std::map<uint64_t, uint64_t> beyond_;
  uint64_t file_length_ = 0;
  uint64_t file_clusters_ = 0;
  // How far counts are compared: the file's clusters, or further for refcount blocks behind them.
  uint64_t compare_end_ = 0;
  uint64_t used_end_ = 1;  // one past the last cluster that is counted or referred to
  uint64_t findings_ = 0;
  Findings found_;
  bool unusable_ = false;              // the refcount structures
  int64_t structure_corruptions_ = 0;  // of them, which end with them
  bool rebuilt_ = false;
  int64_t repaired_snapshots_ = 0;  // entries, in memory
  bool snapshot_table_counted_ = false;
  bool fix_flags_ = false;
  bool changed_ = false;
  MetadataMap metadata_;  // where table entries are not to be written
  bool metadata_collected_ = false;
  std::vector<SnapshotEntry> snapshots_;
  std::vector<uint64_t> refcount_table_;
  // The refcount block that was looked at last.
  std::optional<uint64_t> block_index_;
  bool block_readable_ = false;
  std::vector<std::byte> block_;
  // A cluster whose COPIED flag contradicts its count: a second pass has to say which.
  bool flags_differ_ = false;
};

}  // namespace cairn::qcow2
