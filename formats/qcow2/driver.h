// Qcow2Driver: a qcow2 image as a translating node.
//
//   driver.cc   opening, closing
//   overlap.cc  what the overlap checks protect
//   info.cc     what the node tells about itself; check() is in check*.cc
//   write.cc    begin_write() and end_write(), plain and compressed
//   driver_snapshots.cc  snapshots; the work is done by SnapshotEditor
//   amend*.cc   changing the options that it was created with
//   compact.cc  moving what is stored together
//   change.cc   another backing file, dropping everything
//   zero.cc     zeroing and discarding by metadata
//   resize.cc   growing, shrinking, preallocation
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "block/driver.h"
#include "block/driver_table.h"
#include "formats/qcow2/bitmap_keeper.h"
#include "formats/qcow2/cache_cleaner.h"
#include "formats/qcow2/encryption.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/mapping.h"
#include "formats/qcow2/open_options.h"
#include "formats/qcow2/reclaim.h"
#include "formats/qcow2/refcounts.h"
#include "formats/qcow2/snapshot_editor.h"
#include "formats/qcow2/writeback.h"
#include "io/mutex.h"

namespace cairn::qcow2 {

extern const block::DriverInfo kQcow2Driver;

class Qcow2Driver final : public block::TranslatingDriver {
 public:
  // `data`: as Image has it.
  Qcow2Driver(block::Edge& file, block::Edge* data, block::Node& node, Header header, bool writable,
              const OpenOptions& options);

  // Reads the tables. To be called once, before anything else. With `check_only`, damage that the
  // check will tell of is no reason to fail.
  [[nodiscard]] io::Task<Result<void>> load(bool check_only);
  // How the disk is encrypted, before anything is read or written; null: it is not.
  void set_encryption(std::unique_ptr<Encryption> encryption);

  [[nodiscard]] const Image& image() const { return image_; }
  [[nodiscard]] Image& image() { return image_; }
  [[nodiscard]] Refcounts& refcounts() { return refcounts_; }
  [[nodiscard]] Mapping& mapping() { return mapping_; }
  [[nodiscard]] Reclaim& reclaim() { return reclaim_; }
  [[nodiscard]] const SnapshotTable& snapshot_table() const { return snapshots_.table(); }
  [[nodiscard]] BitmapKeeper& bitmaps() { return bitmaps_; }
  [[nodiscard]] CacheCleaner& cache_cleaner() { return cache_cleaner_; }

  // Driver
  [[nodiscard]] uint64_t length() const override { return image_.header().size; }
  [[nodiscard]] bool encrypted() const override { return encryption_ != nullptr; }
  [[nodiscard]] uint32_t cluster_size() const override {
    return static_cast<uint32_t>(image_.cluster_size());
  }
  [[nodiscard]] io::Task<Result<void>> flush() override { return writeback_.flush(); }
  [[nodiscard]] io::Task<Result<void>> close() override;
  [[nodiscard]] io::Task<Result<void>> quiesce() override;
  void retire() override {
    cache_cleaner_.stop();
    bitmaps_.stop();
  }
  [[nodiscard]] io::Task<Result<bool>> prepare_growth(uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions options) override;
  [[nodiscard]] io::Task<Result<block::CheckResult>> check(block::CheckOptions options) override;
  [[nodiscard]] io::Task<Result<std::unique_ptr<schema::ImageInfoSpecific>>> specific_info()
      override;
  [[nodiscard]] block::BitmapStore* bitmap_store() override { return &bitmaps_; }
  [[nodiscard]] std::optional<bool> dirty() const override {
    return image_.header().has(kIncompatibleDirty);
  }
  [[nodiscard]] uint64_t vm_state_offset() const override;
  [[nodiscard]] block::Permissions child_permissions(block::ChildRole role,
                                                     block::Permissions parents,
                                                     bool writable) const override;
  [[nodiscard]] std::string backing_filename() const override {
    return image_.header().backing_file;
  }
  [[nodiscard]] std::string backing_format() const override {
    return image_.header().backing_format();
  }

  [[nodiscard]] Result<std::vector<block::Snapshot>> snapshots() const override;
  [[nodiscard]] io::Task<Result<void>> create_snapshot(block::Snapshot snapshot) override;
  [[nodiscard]] io::Task<Result<void>> apply_snapshot(std::string id) override;
  [[nodiscard]] io::Task<Result<void>> delete_snapshot(std::string id) override;
  [[nodiscard]] io::Task<Result<void>> show_snapshot(std::string id) override;
  [[nodiscard]] io::Task<Result<void>> change_backing(std::string filename,
                                                      std::string format) override;
  [[nodiscard]] io::Task<Result<void>> make_empty() override;
  [[nodiscard]] io::Task<Result<void>> amend(block::CreateOptions options) override;
  [[nodiscard]] io::Task<Result<void>> compact(block::CompactOptions options) override;

  // TranslatingDriver
  [[nodiscard]] uint64_t allocation_unit() const override { return image_.cluster_size(); }
  [[nodiscard]] uint64_t zeroing_unit() const override {
    return image_.geometry().subcluster_size();
  }
  [[nodiscard]] bool try_map(uint64_t offset, uint64_t length, block::Extent& extent) override {
    const bool known = mapping_.try_map(offset, length, extent);
    if (known && extent.codec == nullptr) {
      extent.sectors = sectors_;
    }
    return known;
  }
  [[nodiscard]] io::Task<Result<block::Extent>> map(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<block::WritePlan>> begin_write(uint64_t offset,
                                                               uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> end_write(block::WritePlan plan, uint64_t offset,
                                                 bool written) override;
  [[nodiscard]] const block::Codec* encoder() const override;
  [[nodiscard]] io::Task<Result<block::WritePlan>> begin_compressed_write(
      uint64_t offset, uint64_t stored_length) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;
  [[nodiscard]] bool metadata_durable() const override { return writeback_.mapping_durable(); }

  // Gives every cluster of a range that has none a host cluster that reads as zeroes. kMetadata
  // leaves the space unwritten where it reads as zeroes anyway; kFalloc and kFull have the file
  // allocate it.
  [[nodiscard]] io::Task<Result<void>> preallocate(uint64_t offset, uint64_t end,
                                                   block::Preallocation mode);

 private:
  // A write between begin_write() and end_write().
  struct Ticket {
    PagePin page;        // with the L2 entries
    uint64_t guest = 0;  // of the first cluster
    uint64_t host = 0;
    uint64_t clusters = 0;    // 0: the ticket is free
    bool allocated = false;   // else the clusters' own space is used again
    uint64_t compressed = 0;  // the L2 entry of a compressed cluster
    // The guest's bytes that are written: all of the clusters, or whole subclusters of them.
    uint64_t data_begin = 0;
    uint64_t data_end = 0;
  };
  // What a write finds at its first clusters.
  struct Target {
    uint64_t clusters = 0;  // of one kind, in a row
    bool allocate = false;
    bool commit = false;  // entries change when the data is there
    uint64_t host = 0;    // when not to be allocated
  };
  struct GuestRange {
    uint64_t begin = 0;
    uint64_t end = 0;
  };

  [[nodiscard]] Result<void> check_snapshots_possible() const;
  [[nodiscard]] io::Task<Result<void>> finish_snapshot(Result<void> result);

  // amend.cc
  struct Amendment;
  [[nodiscard]] Result<Amendment> plan_amendment(const block::CreateOptions& options) const;
  [[nodiscard]] io::Task<Result<void>> settle_counts();
  [[nodiscard]] io::Task<Result<void>> change_data_file(const Amendment& plan);
  [[nodiscard]] io::Task<Result<void>> change_version(uint32_t version);
  [[nodiscard]] io::Task<Result<void>> change_refcount_order(uint32_t order);
  // amend_downgrade.cc
  [[nodiscard]] io::Task<Result<void>> check_downgrade();
  [[nodiscard]] io::Task<Result<void>> expand_zero_clusters();
  [[nodiscard]] io::Task<Result<uint64_t>> expand_page(PagePin page, uint64_t offset);
  [[nodiscard]] io::Task<Result<uint64_t>> zeroed_cluster(uint64_t entry);
  [[nodiscard]] io::Task<Result<bool>> any_entry(bool (*wanted)(uint64_t entry));
  void protect_header();
  [[nodiscard]] io::Task<Result<void>> protect_inactive_l2();
  [[nodiscard]] std::string describe(uint64_t host_offset, MetadataKind writing) const;
  [[nodiscard]] io::Task<Result<void>> prepare_write();

  [[nodiscard]] Target target(Page& page, uint64_t offset, uint64_t clusters) const;
  [[nodiscard]] GuestRange widened(Page& page, GuestRange written, bool allocate) const;
  [[nodiscard]] io::Task<Result<Refcounts::Allocation>> take_space(uint64_t guest,
                                                                   uint64_t clusters);
  [[nodiscard]] io::Task<void> give_back(uint64_t host, uint64_t clusters);
  [[nodiscard]] uint64_t open_ticket(Ticket ticket);
  void commit_cluster(const Ticket& ticket, uint64_t index);
  // Queues what an L2 entry refers to.
  void free_entry(uint64_t entry, FreeCause cause);

  // An L2 entry with its subclusters.
  struct Entry {
    uint64_t value = 0;
    SubclusterBitmap subclusters;
  };
  void replace_entry(Page& page, uint64_t offset, const Entry& entry, FreeCause cause);
  [[nodiscard]] uint64_t zeroed_entry(uint64_t entry, bool may_unmap) const;
  [[nodiscard]] Entry zeroed(Page& page, uint64_t offset, uint64_t end, bool may_unmap) const;
  [[nodiscard]] uint64_t discarded_entry(uint64_t entry) const;
  [[nodiscard]] Entry discarded(Page& page, uint64_t offset) const;
  [[nodiscard]] bool hides_backing() const;
  [[nodiscard]] io::Task<Result<void>> clear_data(uint64_t begin, uint64_t end,
                                                  block::ZeroFlags flags);
  [[nodiscard]] io::Task<void> discard_data(uint64_t begin, uint64_t end);

  // compact.cc
  [[nodiscard]] io::Task<Result<void>> check_compact();
  [[nodiscard]] io::Task<Result<void>> check_soundness();
  [[nodiscard]] io::Task<Result<void>> compact_once(const block::CompactOptions& options);
  [[nodiscard]] io::Task<Result<void>> move_data(uint64_t limit,
                                                 const block::CompactOptions& options);
  [[nodiscard]] io::Task<Result<bool>> move_cluster(Page& page, uint64_t offset,
                                                    std::span<std::byte> buffer);

  [[nodiscard]] io::Task<Result<void>> grow_data(uint64_t length, block::ResizeOptions options);
  [[nodiscard]] io::Task<Result<void>> check_resize(uint64_t length);
  [[nodiscard]] io::Task<Result<void>> shrink(uint64_t length);
  [[nodiscard]] io::Task<Result<void>> drop_clusters(uint64_t offset, uint64_t end);
  [[nodiscard]] io::Task<Result<void>> drop_table(uint64_t l1_index);
  [[nodiscard]] io::Task<Result<void>> cut_file();
  [[nodiscard]] io::Task<Result<void>> settle();
  [[nodiscard]] io::Task<Result<uint64_t>> preallocate_page(PagePin page, uint64_t offset,
                                                            uint64_t end,
                                                            block::Preallocation mode);

  Image image_;
  io::AsyncMutex writeout_;
  Refcounts refcounts_;
  Reclaim reclaim_;
  Mapping mapping_;
  Writeback writeback_;
  SnapshotEditor snapshots_;
  BitmapKeeper bitmaps_;
  CacheCleaner cache_cleaner_;
  std::vector<Ticket> tickets_;  // a plan's ticket is an index plus one
  std::vector<uint64_t> free_tickets_;
  const bool discard_no_unref_;
  const int compression_level_;  // 0: the default
  std::unique_ptr<Encryption> encryption_;
  const block::SectorCodec* sectors_ = nullptr;  // of encryption_
};

}  // namespace cairn::qcow2
