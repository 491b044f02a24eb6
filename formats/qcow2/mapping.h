// Mapping: from guest offsets to host offsets: the L1 table and the cached L2 tables (section
// "Cluster mapping").
//
// In memory, changes show at once. On disk
// - an L2 entry is written only after a flush that covers the data and the refcount of the cluster
//   it points to: a write-out copies the entries first, flushes, then writes the copies;
// - an L1 entry is written only after a flush that covers the L2 table it points to. L1 entries
//   that changed in memory alone are in l1_pending_ with the value they have on disk;
// - the L1 table moves by writing the new one, with all it refers to, before the header's sector.
//
// An L2 table that is shared with a snapshot (no "copied" flag) is copied before it changes.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "base/result.h"
#include "block/extent.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/page_cache.h"
#include "formats/qcow2/reclaim.h"
#include "formats/qcow2/refcounts.h"
#include "formats/qcow2/subclusters.h"
#include "io/mutex.h"
#include "io/task.h"

namespace cairn::qcow2 {

class Mapping final : private TableLocator {
 public:
  Mapping(Image& image, Refcounts& refcounts, Reclaim& reclaim, io::AsyncMutex& writeout,
          uint64_t cache_bytes, uint64_t page_bytes);
  ~Mapping() override;

  // Reads the L1 table.
  [[nodiscard]] io::Task<Result<void>> load();

  // As TranslatingDriver's. Offsets lie within the L1 table's reach.
  [[nodiscard]] bool try_map(uint64_t offset, uint64_t length, block::Extent& extent);
  [[nodiscard]] io::Task<Result<block::Extent>> map(uint64_t offset, uint64_t length);

  // The page with the entry of a guest offset, in an L2 table that may be changed: made or copied
  // first when need be.
  [[nodiscard]] io::Task<Result<PagePin>> writable_page(uint64_t offset);
  // The same for looking only; the offset has a table.
  [[nodiscard]] io::Task<Result<PagePin>> readable_page(uint64_t offset);
  // Whether there is an L2 table for the offset at all.
  [[nodiscard]] bool has_table(uint64_t offset) const;
  // Guest offsets where the coverage of the page, or of the L2 table, with `offset` ends.
  [[nodiscard]] uint64_t page_end(uint64_t offset) const;
  [[nodiscard]] uint64_t table_end(uint64_t offset) const;
  // The entry of the cluster at a guest offset, without its subclusters.
  [[nodiscard]] uint64_t entry(Page& page, uint64_t offset) const;
  // Its subclusters: empty where entries are not extended.
  [[nodiscard]] SubclusterBitmap subclusters(Page& page, uint64_t offset) const;
  // `subclusters` have no place, and no meaning, where entries are not extended.
  void set_entry(Page& page, uint64_t offset, uint64_t value, SubclusterBitmap subclusters = {});
  // EIO when the place of an L2 table makes no sense, or something else lies there, too.
  [[nodiscard]] io::Task<Result<void>> check_writable_table(uint64_t index);
  // EIO when the entry at a guest offset makes no sense.
  [[nodiscard]] io::Task<Result<void>> validate(Page& page, uint64_t offset);

  // Something is not durable yet.
  [[nodiscard]] bool dirty() const { return pages_.dirty() || !l1_pending_.empty(); }
  [[nodiscard]] bool pressed() const { return pages_.pressed(); }
  // As PageCache's.
  void forget_unused() { pages_.forget_unused(); }
  [[nodiscard]] std::size_t cached_bytes() const { return pages_.size() * pages_.page_size(); }

  // Writing out, under the write-out lock: take(), flush the file, write_tables(), flush if `l1`
  // is not empty and write_l1(), flush, finish().
  struct Writeout {
    DirtyPages pages;
    std::map<uint64_t, uint64_t> l1;  // copies of the changed entries, by index
    [[nodiscard]] bool empty() const { return pages.empty() && l1.empty(); }
  };
  [[nodiscard]] Result<void> take(Writeout& out);
  [[nodiscard]] io::Task<Result<void>> write_tables(Writeout& out);
  [[nodiscard]] io::Task<Result<void>> write_l1(const Writeout& out);
  void finish(Writeout& out, bool success);

  // Makes the L1 table have at least `entries`, moving it if need be. `size` is the disk's new
  // size, which the same header update records.
  [[nodiscard]] io::Task<Result<void>> grow_l1(uint64_t entries, uint64_t size);
  // Drops the L2 table of an index; its clusters must have been freed before. The disk ends before
  // it.
  void drop_table(uint64_t l1_index);

  // Moves the L2 table of an index, which nobody else refers to, to the first free place, if that
  // is before the one it has. Nothing is dirty.
  [[nodiscard]] io::Task<Result<void>> move_table(uint64_t index);

  // The header names another L1 table, with these entries; nothing is dirty. Cached entries of
  // tables that lie where they did stay.
  void adopt_l1(std::vector<uint64_t> l1, uint64_t offset);

  // The file has become shorter.
  void file_was_cut() { file_length_ = 0; }

  [[nodiscard]] const std::vector<uint64_t>& l1() const { return l1_; }
  [[nodiscard]] uint64_t l1_offset() const { return l1_offset_; }

 private:
  [[nodiscard]] uint64_t table_offset(uint64_t table) const override {
    return l1_[table] & kEntryOffsetMask;
  }
  [[nodiscard]] bool file_has_holes() const;
  [[nodiscard]] uint64_t l1_index(uint64_t offset) const { return offset >> table_shift_; }
  [[nodiscard]] uint32_t page_index(uint64_t offset) const {
    return static_cast<uint32_t>(offset >> page_shift_) & (pages_.pages_per_table() - 1);
  }
  [[nodiscard]] uint32_t byte_in_page(uint64_t offset) const {
    return static_cast<uint32_t>((offset >> cluster_bits_) & entry_mask_) * entry_bytes_;
  }

  // The entry of a guest offset when it is in memory; `span` is how far, at least, the guest's
  // clusters from there on have no L2 table at all, else 0.
  [[nodiscard]] bool peek(uint64_t offset, uint64_t& entry, uint64_t& span) const;
  [[nodiscard]] uint64_t run_length(uint64_t offset, uint64_t length, uint64_t entry,
                                    uint64_t span) const;
  [[nodiscard]] bool map_data(uint64_t offset, uint64_t length, uint64_t entry,
                              block::Extent& extent);
  // Fills in what makes an extent data, but for its length.
  void place_data(uint64_t offset, uint64_t entry, block::Extent& extent);
  [[nodiscard]] bool map_compressed(uint64_t offset, uint64_t length, uint64_t entry,
                                    block::Extent& extent) const;
  [[nodiscard]] bool place_is_right(uint64_t offset, uint64_t host) const;

  // With extended entries (mapping_subclusters.cc).
  struct Subclusters {
    uint64_t entry = 0;
    SubclusterBitmap bitmap;
    uint64_t span = 0;  // as peek()'s
  };
  [[nodiscard]] bool peek_subclusters(uint64_t offset, Subclusters& found) const;
  [[nodiscard]] uint64_t run_of_subclusters(uint64_t offset, uint64_t length,
                                            const Subclusters& first) const;
  [[nodiscard]] bool try_map_subclusters(uint64_t offset, uint64_t length, block::Extent& extent);
  [[nodiscard]] io::Task<Result<void>> ensure_table(uint64_t index);
  void place_table(uint64_t index, uint64_t host_offset);
  [[nodiscard]] io::Task<Result<void>> move_l1(uint64_t entries, uint64_t size);
  [[nodiscard]] io::Task<Result<void>> make_table(uint64_t old_offset, uint64_t new_offset);
  [[nodiscard]] io::Task<Result<void>> check_table(uint64_t index);
  [[nodiscard]] uint64_t l1_on_disk(uint64_t index) const;

  Image& image_;
  Refcounts& refcounts_;
  Reclaim& reclaim_;
  io::AsyncMutex& writeout_;
  io::AsyncMutex tables_mutex_;  // making and copying L2 tables
  PageCache pages_;
  const uint32_t cluster_bits_;
  const uint64_t cluster_mask_;
  const uint32_t entry_bytes_;
  const uint32_t page_shift_;   // log2 of the guest bytes that a page covers
  const uint32_t table_shift_;  // and a table
  const uint64_t entry_mask_;   // entries of a page, minus one
  std::vector<uint64_t> l1_;
  uint64_t l1_offset_;
  std::map<uint64_t, uint64_t> l1_pending_;
  uint64_t file_length_ = 0;  // a lower bound, for the hot path
  // The file is a good deal shorter in space than in length: block status asks where its holes are.
  bool has_holes_ = false;
};

}  // namespace cairn::qcow2
