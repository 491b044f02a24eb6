// Checker: compares the reference counts of a qcow2 image with what its tables refer to.
//
// Reads only. Every number in the image is hostile: offsets are taken only up to the end of the
// file, tables are read in pieces of a cluster, and the counts' memory is bounded.
//
//   check.cc             the order of things; counting the references of L1 and L2 tables
//   check_extras.cc      references of snapshots, bitmaps and the encryption header
//   check_refcounts.cc   the stored counts, compared; the COPIED flags
//
// Messages are those that people and scripts know from qemu-img.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/check.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/reference_counts.h"
#include "formats/qcow2/snapshot_table.h"
#include "io/task.h"

namespace cairn::qcow2 {

class Checker {
 public:
  // `image` must be flushed, idle, and outlive the checker.
  Checker(Image& image, block::CheckOptions options);

  // EIO when a table can not be read, ENOMEM when the tables refer to too many places, EFBIG when
  // the snapshot table is beyond the limits or there is no end of findings.
  [[nodiscard]] io::Task<Result<block::CheckResult>> run();

 private:
  using Outcome = io::Task<Result<void>>;

  struct L1Table {
    uint64_t offset = 0;
    uint64_t entries = 0;
    bool active = false;  // the current state of the disk, not a snapshot
  };

  // Findings.
  void report(const std::string& line) const;
  void corruption(const std::string& line);

  // References. Counting beyond the end of the file is a corruption, and counts nothing.
  [[nodiscard]] Result<void> count(uint64_t offset, uint64_t length,
                                   ReferenceCounts::Flag flag = ReferenceCounts::Flag::kNone);
  [[nodiscard]] Outcome count_l1(L1Table table);
  [[nodiscard]] Outcome count_l1_entry(uint64_t entry, bool active);
  [[nodiscard]] Outcome count_l2(uint64_t offset, bool active);
  [[nodiscard]] Result<void> count_l2_entry(uint64_t entry, bool active, uint64_t& next_contiguous);
  [[nodiscard]] Result<void> count_compressed(uint64_t entry, bool active);

  [[nodiscard]] Outcome read_snapshots();
  [[nodiscard]] Outcome count_snapshots();
  [[nodiscard]] Outcome count_bitmaps();
  [[nodiscard]] Outcome count_bitmap_table(uint64_t offset, uint64_t entries);
  [[nodiscard]] Result<void> count_crypt_header();

  // Stored counts.
  [[nodiscard]] Outcome read_refcount_table();
  [[nodiscard]] Result<void> check_refcount_table();
  [[nodiscard]] Outcome compare();
  [[nodiscard]] io::Task<Result<bool>> load_block(uint64_t index);
  [[nodiscard]] Outcome compare_block(uint64_t index);
  void compare_unread(uint64_t first, uint64_t end);
  void compare_cluster(uint64_t cluster, uint64_t stored);
  [[nodiscard]] Result<void> check_effort() const;
  [[nodiscard]] io::Task<Result<std::optional<uint64_t>>> stored_count(uint64_t cluster);
  [[nodiscard]] Outcome check_copied_flags();
  [[nodiscard]] Outcome check_copied_in_l2(uint64_t offset);

  // Reads a piece of a table as big-endian numbers, at most a cluster.
  [[nodiscard]] io::Task<Result<void>> read_table(uint64_t offset, uint64_t entries,
                                                  std::vector<std::byte>& bytes);

  Image& image_;
  const Header& header_;
  const Geometry geometry_;
  const block::CheckOptions options_;
  block::CheckResult result_;
  block::CheckResult::Fragmentation fragmentation_;
  ReferenceCounts references_;
  uint64_t file_length_ = 0;
  uint64_t file_clusters_ = 0;
  uint64_t used_end_ = 1;  // one past the last cluster that is counted or referred to
  uint64_t findings_ = 0;
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
