// Qcow2Builder: makes qcow2 images by the public specification (docs/interop/qcow2.rst), without
// the code under test, so that tests can start from any content and from states that a driver
// reaches seldom or that other programs make: compressed clusters, zero clusters that keep their
// space, snapshots, any refcount width.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tests/support/sparse_bytes.h"

namespace cairn::testing {

struct Qcow2Shape {
  uint32_t version = 3;
  uint32_t cluster_bits = 16;
  uint32_t refcount_order = 4;  // version 2 knows 4 only
  uint64_t size = 0;            // guest bytes
  bool lazy_refcounts = false;
  bool zstd = false;         // compression type; version 3 only
  bool extended_l2 = false;  // subclusters; version 3 with clusters of 16 KiB at least
  std::string backing_file = {};
  std::string backing_format = {};
  std::string data_file = {};  // external; version 3, without compressed clusters and snapshots
  bool data_file_raw = false;

  [[nodiscard]] bool external_data() const { return !data_file.empty(); }
  [[nodiscard]] uint64_t cluster_size() const { return uint64_t{1} << cluster_bits; }
  [[nodiscard]] uint64_t l2_entry_bytes() const { return extended_l2 ? 16 : 8; }
};

class Qcow2Builder {
 public:
  explicit Qcow2Builder(Qcow2Shape shape);
  [[nodiscard]] const Qcow2Shape& shape() const { return shape_; }

  // All offsets are guest offsets of clusters; Contents are a cluster long.
  // A cluster may be set again, but for a compressed one.
  void data(uint64_t offset, std::span<const std::byte> content);
  // `keep_space`: a host cluster stays allocated. Version 3 only.
  void zero(uint64_t offset, bool keep_space);
  // False, and nothing done, when the content does not shrink.
  bool compressed(uint64_t offset, std::span<const std::byte> content);

  // Leaves so many host clusters free (refcount 0) before what comes next.
  void leave_hole(uint64_t clusters) { next_cluster_ += clusters; }
  // The same, but counted as in use, although nothing refers to them: leaks.
  void leak(uint64_t clusters) { static_cast<void>(allocate(clusters)); }

  // Freezes the state so far as a snapshot; `extra` is appended to the extra data that version 3
  // asks for. What is set later belongs to the active image alone.
  void snapshot(const std::string& id, const std::string& name,
                std::span<const std::byte> extra = {});

  // The image. To be called once.
  [[nodiscard]] SparseBytes finish();
  // The external data file, then.
  [[nodiscard]] SparseBytes finish_data();

 private:
  struct Snapshot {
    std::string id;
    std::string name;
    std::vector<std::byte> extra;
    std::map<uint64_t, uint64_t> entries;
  };

  void drop(uint64_t offset);
  [[nodiscard]] uint64_t allocate(uint64_t clusters);
  [[nodiscard]] uint64_t place_compressed(uint64_t length);
  // Writes L2 tables and the L1 table for the entries; returns the L1's offset.
  void put_l2_entry(uint64_t offset, uint64_t entry);
  uint64_t write_tables(const std::map<uint64_t, uint64_t>& entries, bool copied);
  void write_snapshots();
  void write_refcounts();
  void put_refcount(uint64_t block, uint64_t index, uint64_t value);
  void write_header();
  [[nodiscard]] uint64_t l1_entries() const;
  template <typename T>
  void put(uint64_t offset, T value);

  Qcow2Shape shape_;
  SparseBytes image_;
  SparseBytes data_;
  uint64_t next_cluster_ = 1;
  uint64_t compressed_end_ = 0;             // where the next compressed piece may go
  std::map<uint64_t, uint64_t> entries_;    // guest cluster index to plain L2 entry, without COPIED
  std::map<uint64_t, uint64_t> refcounts_;  // host cluster index to refcount
  std::vector<Snapshot> snapshots_;
  uint64_t l1_offset_ = 0;
  uint64_t refcount_table_offset_ = 0;
  uint64_t refcount_table_clusters_ = 0;
  uint64_t snapshots_offset_ = 0;
};

}  // namespace cairn::testing
