// Refcounts: which host clusters are in use, how often, and the search for free ones (section "Host
// cluster management").
//
// In memory, changes show at once. On disk
// - a count may be too high after a crash (a leak), never too low: callers raise a count before
//   anything refers to the cluster, have it written before that reference is, and lower it only
//   when no durable reference is left;
// - a refcount block is durable before the refcount table points to it;
// - the table moves by writing the new one, with all it refers to, before the header's sector.
//
// A block that is new in memory but not yet in the table on disk is "unlinked". Blocks are made
// complete (zeroed, counting themselves) before a write-out may link them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/result.h"
#include "formats/qcow2/cluster_runs.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/page_cache.h"
#include "io/mutex.h"
#include "io/task.h"

namespace cairn::qcow2 {

// Reading and writing counts of any width in the bytes of a refcount block; `order` is the
// header's refcount_order, `index` counts entries.
[[nodiscard]] uint64_t load_refcount(const std::byte* bytes, uint32_t order, uint64_t index);
void store_refcount(std::byte* bytes, uint32_t order, uint64_t index, uint64_t value);

class Refcounts final : private TableLocator {
 public:
  struct Allocation {
    uint64_t host_offset = 0;
    uint64_t clusters = 0;
    // Nothing was ever stored there: the file reads as zeroes.
    bool reads_zero = false;
  };

  // `writeout` is held by whoever writes metadata out.
  Refcounts(Image& image, io::AsyncMutex& writeout, uint64_t cache_bytes);
  ~Refcounts() override;

  // Reads the refcount table.
  [[nodiscard]] io::Task<Result<void>> load();

  [[nodiscard]] io::Task<Result<uint64_t>> get(uint64_t cluster);

  // Takes 1 to `clusters` free clusters in a row, counted once each.
  [[nodiscard]] io::Task<Result<Allocation>> allocate(uint64_t clusters);
  // Takes exactly `clusters` in a row, for tables. The host offset.
  [[nodiscard]] io::Task<Result<uint64_t>> allocate_contiguous(uint64_t clusters);
  // Takes `length` bytes, at most a cluster, for compressed data: at any byte offset, in clusters
  // that other such data may share. Every cluster touched is counted once more.
  [[nodiscard]] io::Task<Result<uint64_t>> allocate_bytes(uint64_t length);
  // What is left in these clusters is not handed out any more: they are about to be freed.
  [[nodiscard]] io::Task<void> seal(uint64_t host_offset, uint64_t clusters);
  // Lowers the counts of clusters in a row by one each; free ones may be handed out at once.
  [[nodiscard]] io::Task<Result<void>> release(uint64_t host_offset, uint64_t clusters);

  // Something is not on disk yet.
  [[nodiscard]] bool dirty() const { return pages_.dirty() || !unlinked_.empty(); }
  [[nodiscard]] bool pressed() const { return pages_.pressed(); }
  // As PageCache's.
  void forget_unused() { pages_.forget_unused(); }

  // Writing out, under the write-out lock. write_out() writes all changed counts, and table entries
  // after a flush when there are new blocks; what it wrote is durable after the caller's next
  // flush, whose outcome is told to finish().
  struct Writeout {
    DirtyPages pages;
    std::vector<uint64_t> linked;  // table indices
  };
  [[nodiscard]] io::Task<Result<void>> write_out(Writeout& out);
  void finish(Writeout& out, bool success);

  // How many of the clusters before `end` are in use.
  [[nodiscard]] io::Task<Result<uint64_t>> count_used(uint64_t end);
  // Takes the blocks that count nothing but themselves out of the table, durably. Nothing is dirty,
  // and no write-out is under way.
  [[nodiscard]] io::Task<Result<void>> drop_idle_blocks();

  // Changes of many counts that show on disk all at once or not at all: blocks are copied before
  // they change, and one header update makes a new table name the copies (refcount_shadow.cc).
  // Between begin_shadow() and its end nothing else may use the refcounts; everything has been
  // written out before, and the write-out lock is held.
  //
  // Space for the copies: host offsets of clusters that are counted once. One is enough for each
  // block there is.
  void begin_shadow(std::vector<uint64_t> spare);
  // Adds one to each count; EINVAL when one is at its maximum, or free.
  [[nodiscard]] io::Task<Result<void>> raise(ClusterRuns& runs);
  // Takes one from each count. One that would drop to 0 stays at 1 and is noted in `gone` and
  // `freed`, to be released when nothing on disk refers to the cluster any more. Those that are 1
  // now are noted in `sole`.
  struct Lowered {
    ClusterSet sole;
    ClusterSet gone;
    ClusterRuns freed;
  };
  [[nodiscard]] io::Task<Result<void>> lower(ClusterRuns& runs, Lowered& lowered);
  [[nodiscard]] bool shadowed() const { return !shadow_.empty(); }
  // Writes the copies, and the table to `host_offset`, where it has room. Durable after a flush.
  [[nodiscard]] io::Task<Result<void>> write_shadow(uint64_t host_offset);
  // The header names the new table (true): the clusters of the old blocks, or the shadow is dropped
  // and those of the copies are returned. What of `spare` is not used is returned as well.
  [[nodiscard]] std::vector<uint64_t> end_shadow(bool adopted, uint64_t host_offset);
  // How many spare clusters a shadow may need.
  [[nodiscard]] uint64_t block_count() const;

  // Host offsets of the refcount blocks in use, 0 for none; and the table's own place.
  [[nodiscard]] const std::vector<uint64_t>& table() const { return table_; }
  [[nodiscard]] uint64_t table_offset() const { return table_offset_; }
  [[nodiscard]] uint64_t table_length() const { return table_.size() * kRefcountTableEntryBytes; }
  // From here to the end of the file and beyond nothing was ever stored.
  void note_file_end(uint64_t offset);

 private:
  struct Region;

  [[nodiscard]] uint64_t table_offset(uint64_t table) const override { return table_[table]; }
  [[nodiscard]] uint64_t block_of(uint64_t cluster) const { return cluster / block_entries_; }
  [[nodiscard]] uint64_t in_page(uint64_t cluster) const { return cluster % page_entries_; }

  // All below run under mutex_.
  [[nodiscard]] io::Task<Result<PagePin>> page_of(uint64_t cluster);
  void set(Page& page, uint64_t cluster, uint64_t value);
  [[nodiscard]] io::Task<Result<void>> set_used(uint64_t cluster, uint64_t count);
  [[nodiscard]] io::Task<Result<Allocation>> allocate_locked(uint64_t clusters);
  [[nodiscard]] io::Task<Result<std::optional<uint64_t>>> find_run(uint64_t clusters);
  [[nodiscard]] io::Task<Result<void>> release_locked(uint64_t host_offset, uint64_t clusters);
  [[nodiscard]] io::Task<Result<void>> add_blocks(uint64_t block, uint64_t count);
  void forget_blocks(uint64_t block, uint64_t count);
  void drop_unreachable_blocks(std::size_t entries);
  [[nodiscard]] Result<Region> plan_region(uint64_t clusters) const;
  [[nodiscard]] io::Task<Result<bool>> is_idle(uint64_t block);
  void forget_idle_blocks(const std::vector<uint64_t>& blocks);
  [[nodiscard]] io::Task<Result<uint64_t>> extend(uint64_t clusters);
  [[nodiscard]] io::Task<Result<void>> move_table(uint64_t host_offset, uint64_t clusters);
  [[nodiscard]] io::Task<Result<void>> write_table_sectors(const std::vector<uint64_t>& linked);
  // A cluster with compressed data, and room for more behind it.
  struct PartialCluster {
    uint64_t free_offset = 0;  // the first free byte; never the first of the cluster
  };
  [[nodiscard]] io::Task<Result<bool>> share(uint64_t cluster);
  [[nodiscard]] uint64_t room(const PartialCluster& partial) const;
  void keep_partial(uint64_t free_offset);
  void seal_locked(uint64_t first, uint64_t end);
  Allocation taken(uint64_t cluster, uint64_t count);
  void note_freed(uint64_t cluster);
  [[nodiscard]] io::Task<Result<void>> shadow_block(uint64_t block);
  [[nodiscard]] io::Task<Result<PagePin>> shadow_page(uint64_t cluster);
  [[nodiscard]] io::Task<Result<void>> relieve_shadow();
  [[nodiscard]] Error counted_as_free(uint64_t cluster) const;

  // The block that counts `cluster`, made if it does not exist.
  [[nodiscard]] io::Task<Result<void>> ensure_block(uint64_t cluster);

  Image& image_;
  io::AsyncMutex& writeout_;
  io::AsyncMutex mutex_;
  const Geometry geometry_;
  PageCache pages_;
  const uint64_t block_entries_;
  const uint64_t page_entries_;
  std::vector<uint64_t> table_;
  uint64_t table_offset_;
  std::map<uint64_t, uint64_t> shadow_;  // table index to the place in the table on disk
  std::vector<uint64_t> spare_;
  std::map<uint64_t, bool> unlinked_;  // table indices; true: complete
  // Clusters before this one are in use, but for those in freed_ (and, when there were too many to
  // remember, hint_ went back): a full image is searched once and not again for every cluster
  // freed.
  uint64_t hint_ = 0;
  std::set<uint64_t> freed_;
  std::vector<PartialCluster> partial_;
  uint64_t high_water_ = 0;  // in bytes: nothing was ever stored from here on
};

}  // namespace cairn::qcow2
