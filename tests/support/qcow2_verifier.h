// Qcow2Verifier: a second opinion on a qcow2 image.
//
// Reads the raw bytes by the public specification (docs/interop/qcow2.rst) and shares no code with
// formats/qcow2, so that a mistake there can not hide itself. It knows what the tests make:
// versions 2 and 3, any cluster size and refcount width, subclusters, snapshots, both compression
// types, external data files, bitmaps.
//
//   qcow2_verifier.cc          everything but
//   qcow2_verifier_bitmaps.cc  header extensions and bitmaps
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/result.h"
#include "tests/support/sparse_bytes.h"

namespace cairn::testing {

class Qcow2Verifier {
 public:
  // `image` must outlive the verifier, and so must `data`: the external data file, if it has one.
  explicit Qcow2Verifier(const SparseBytes& image, const SparseBytes* data = nullptr)
      : image_(image), data_(data) {}

  struct Report {
    std::vector<std::string> corruptions;
    uint64_t leaks = 0;  // clusters whose refcount is too high
    // Those of them that lie inside the file, which is where qemu-img looks.
    uint64_t leaks_in_file = 0;
    bool dirty = false;  // refcounts are not to be trusted and were not looked at
  };
  // Checks structures, references against refcounts, overlaps and the COPIED flags.
  [[nodiscard]] Report verify();

  // The header's, after verify().
  [[nodiscard]] int version() const { return version_; }
  [[nodiscard]] unsigned refcount_order() const { return refcount_order_; }
  [[nodiscard]] bool lazy_refcounts() const { return lazy_refcounts_; }
  [[nodiscard]] const std::string& backing_file() const { return backing_file_; }

  // Guest bytes; 0 before verify() or when the header is unusable.
  [[nodiscard]] uint64_t guest_size() const { return size_; }

  // Reads what the parent image holds at an offset of the guest.
  using BackingReader = std::function<void(uint64_t offset, std::span<std::byte> out)>;
  // Guest content by the tables alone, after verify(); EIO for a piece that can not be decoded. An
  // empty `backing` stands for zeroes.
  [[nodiscard]] Result<void> read(uint64_t offset, std::span<std::byte> out,
                                  const BackingReader& backing) const {
    return read_by(l1_offset_, l1_entries_, offset, out, backing);
  }

  struct Snapshot {
    std::string name;
    uint64_t size = 0;  // of the disk then, in bytes
    uint64_t l1_offset = 0;
    uint64_t l1_entries = 0;
  };
  // After verify().
  [[nodiscard]] const std::vector<Snapshot>& snapshots() const { return snapshot_list_; }
  [[nodiscard]] Result<void> read(const Snapshot& snapshot, uint64_t offset,
                                  std::span<std::byte> out, const BackingReader& backing) const {
    return read_by(snapshot.l1_offset, snapshot.l1_entries, offset, out, backing);
  }

  struct Bitmap {
    std::string name;
    uint64_t granularity = 0;  // bytes
    bool in_use = false;       // nobody else may believe its bits
    bool vouched = false;      // in use, and what is stored with the map has all that is marked
    bool records = false;      // is switched on when the image is opened
    std::vector<bool> bits;    // one a granule; empty when in use and not vouched for
  };
  // After verify(): those that the header vouches for.
  [[nodiscard]] const std::vector<Bitmap>& bitmaps() const { return bitmap_list_; }
  [[nodiscard]] uint64_t cluster_size() const { return cluster_size_; }

 private:
  enum class Use : uint8_t {
    kHeader,
    kL1,
    kL2,
    kRefcountTable,
    kRefcountBlock,
    kSnapshots,
    kBitmapDirectory,
    kBitmapTable,
    kBitmapData,
    kData,
    kCompressed,
  };
  struct References {
    uint64_t count = 0;
    Use use = Use::kData;
  };

  static const char* name_of(Use use);
  [[nodiscard]] bool may_share(Use use) const;
  bool read_header();
  void refer(uint64_t offset, uint64_t length, Use use, const std::string& where);
  void walk_refcounts();
  void walk_l1(uint64_t offset, uint64_t entries, bool active, const std::string& where);
  // `guest`: the offset of what its first entry maps.
  void walk_l2(uint64_t offset, uint64_t guest, bool active, const std::string& where);
  void check_data_entry(uint64_t entry, bool active, const std::string& where);
  [[nodiscard]] bool has_place(uint64_t entry) const;
  void check_external_entry(uint64_t guest, uint64_t entry, const std::string& where);
  void check_subclusters(uint64_t entry, uint64_t bitmap, const std::string& where);
  void walk_snapshots();
  void walk_extensions();
  void walk_bitmaps(uint64_t extension, uint64_t length);
  void walk_intent(uint64_t directory, uint64_t size);
  void add_intent(Bitmap& bitmap) const;
  void walk_bitmap(uint64_t entry, const std::string& where);
  void walk_bitmap_table(uint64_t table, uint64_t entries, Bitmap& bitmap,
                         const std::string& where);
  void compare();
  void leaked(uint64_t cluster);
  void check_copied(uint64_t offset, bool copied, const std::string& where);
  [[nodiscard]] uint64_t refcount(uint64_t cluster) const;
  [[nodiscard]] Result<void> read_by(uint64_t l1_offset, uint64_t l1_entries, uint64_t offset,
                                     std::span<std::byte> out, const BackingReader& backing) const;
  [[nodiscard]] Result<void> inflate(uint64_t entry, std::span<std::byte> cluster) const;

  // What one part of a cluster, all of it or a subcluster, reads as.
  [[nodiscard]] Result<void> read_part(uint64_t offset, std::span<std::byte> part, uint64_t entry,
                                       uint64_t bitmap, const BackingReader& backing) const;

  template <typename T>
  [[nodiscard]] T field(uint64_t offset) const;
  template <typename... Args>
  void corrupt(const Args&... parts);

  const SparseBytes& image_;
  const SparseBytes* data_;
  Report report_;
  std::vector<Snapshot> snapshot_list_;
  std::vector<Bitmap> bitmap_list_;
  // The map of what may have changed (formats/qcow2/write_intent.h), when there is one.
  std::vector<bool> intent_vouched_;
  std::vector<std::byte> intent_bits_;
  uint32_t intent_group_bits_ = 0;
  int version_ = 0;
  unsigned cluster_bits_ = 0;
  uint64_t cluster_size_ = 0;
  bool extended_ = false;
  uint64_t l2_entry_bytes_ = 8;
  uint64_t size_ = 0;
  uint64_t l1_entries_ = 0;
  uint64_t l1_offset_ = 0;
  uint64_t refcount_table_offset_ = 0;
  uint64_t refcount_table_clusters_ = 0;
  uint64_t snapshots_ = 0;
  uint64_t snapshots_offset_ = 0;
  uint64_t incompatible_ = 0;
  uint64_t autoclear_ = 0;
  uint64_t header_length_ = 72;
  bool lazy_refcounts_ = false;
  std::string backing_file_;
  unsigned refcount_order_ = 4;
  uint8_t compression_ = 0;
  std::map<uint64_t, References> references_;  // by cluster index
  std::map<uint64_t, uint64_t> refcounts_;     // those that are not 0
};

template <typename T>
T Qcow2Verifier::field(uint64_t offset) const {
  std::byte raw[sizeof(T)];
  image_.read(offset, raw);
  return load_be<T>(raw);
}

template <typename... Args>
void Qcow2Verifier::corrupt(const Args&... parts) {
  std::string line;
  ((line += fmt::format("{}", parts)), ...);
  report_.corruptions.push_back(std::move(line));
}

}  // namespace cairn::testing
