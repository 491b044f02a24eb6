// PageCache: the cached part of a two-level table's second level (L2 tables or refcount blocks), in
// pages of 512 bytes up to a table.
//
// A page is named by the index of its table and its own index within the table. Where a table lies
// in the file is the owner's knowledge (TableLocator).
//
// Invariants
// - A page that is pinned, dirty or being loaded stays where it is. Nobody keeps a pointer to a
//   page over a suspension without a pin.
// - A page's memory is what requests see. What is written to the file are copies that take_dirty()
//   made, so a page may change while its older state is on its way to the disk.
// - The limit is soft: loading never waits for a write-out. Who starts a request looks at
//   pressed() first and has dirty pages written out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/result.h"
#include "block/fault_point.h"
#include "formats/qcow2/page_memory.h"
#include "io/buffer.h"
#include "io/event.h"
#include "io/task.h"

namespace cairn::qcow2 {

class TableLocator {
 public:
  virtual ~TableLocator() = default;
  // Host offset of a table that exists.
  [[nodiscard]] virtual uint64_t table_offset(uint64_t table) const = 0;
};

struct Page {
  uint64_t table = 0;
  uint32_t index = 0;  // within the table
  uint32_t pins = 0;
  uint32_t position = 0;    // in the cache's list
  uint8_t dirty = 0;        // one bit per sector, or per eighth of a page that is larger than 4 KiB
  bool referenced = false;  // since the eviction hand last came by
  std::byte* memory = nullptr;
  std::shared_ptr<io::Event> loading;  // set while the page is being read

  [[nodiscard]] std::byte* data() { return memory; }
};

class PagePin {
 public:
  PagePin() = default;
  explicit PagePin(Page& page) : page_(&page) { ++page.pins; }
  PagePin(PagePin&& other) noexcept : page_(std::exchange(other.page_, nullptr)) {}
  PagePin& operator=(PagePin&& other) noexcept {
    if (this != &other) {
      release();
      page_ = std::exchange(other.page_, nullptr);
    }
    return *this;
  }
  PagePin(const PagePin&) = delete;
  PagePin& operator=(const PagePin&) = delete;
  ~PagePin() { release(); }

  [[nodiscard]] Page& operator*() const { return *page_; }
  [[nodiscard]] Page* operator->() const { return page_; }
  [[nodiscard]] bool held() const { return page_ != nullptr; }

 private:
  void release() {
    if (page_ != nullptr) {
      --std::exchange(page_, nullptr)->pins;
    }
  }
  Page* page_ = nullptr;
};

// Copies of dirty sectors on their way to the file.
struct DirtyPages {
  struct Piece {
    Page* page = nullptr;  // pinned until settle()
    uint8_t mask = 0;
    uint64_t host_offset = 0;
    uint32_t length = 0;
    uint64_t at = 0;  // in `data`
  };
  std::vector<Piece> pieces;  // by host offset
  io::AlignedBuffer data;
  [[nodiscard]] bool empty() const { return pieces.empty(); }
};

class PageCache {
 public:
  static constexpr uint32_t kDefaultPage = 4096;
  static constexpr uint32_t kSector = 512;

  // What the work on pages is called by those who listen.
  struct FaultPoints {
    block::FaultPoint load;
    block::FaultPoint update;
  };

  // `table_bytes`: the size of a table, a cluster. `limit`: bytes of pages to keep. `page_bytes`: a
  // power of two from a sector to a table.
  PageCache(block::Edge& file, const TableLocator& locator, FaultPoints points,
            uint64_t table_bytes, uint64_t limit, uint64_t page_bytes);
  PageCache(const PageCache&) = delete;
  PageCache& operator=(const PageCache&) = delete;
  ~PageCache();

  [[nodiscard]] uint32_t page_size() const { return page_size_; }
  [[nodiscard]] uint32_t pages_per_table() const { return pages_per_table_; }

  // How many tables there are at most.
  void set_table_count(uint64_t count) { tables_.resize(count); }

  // The page if it is in memory, else null. The hot path: no more than three loads.
  [[nodiscard]] Page* find(uint64_t table, uint32_t index) const {
    Page** pages = tables_[table].get();
    Page* page = pages == nullptr ? nullptr : pages[index];
    return page == nullptr || page->loading != nullptr ? nullptr : page;
  }

  // Reads the page if need be. Errors are those of the file.
  [[nodiscard]] io::Task<Result<PagePin>> get(uint64_t table, uint32_t index);

  void mark_dirty(Page& page, uint32_t byte_offset, uint32_t length);
  [[nodiscard]] bool dirty() const { return dirty_pages_ != 0; }

  // Forgets clean pages that were not asked for since the last call, or since they were last passed
  // over for eviction.
  void forget_unused();

  // Forgets a table's pages, changed or not. None may be pinned.
  void drop_table(uint64_t table);

  // Copies all dirty sectors and counts the pages as clean. ENOMEM changes nothing.
  [[nodiscard]] Result<DirtyPages> take_dirty();
  // Writes the copies to the file. They must stay where they are until the task is done.
  [[nodiscard]] io::Task<Result<void>> write(DirtyPages& pages);
  // Ends what take_dirty() began; without success the pages are dirty again.
  void settle(DirtyPages& pages, bool success);

  // The cache has outgrown its limit because pages are dirty: a write-out is due. Never so when the
  // limit has room for all pages that there are.
  [[nodiscard]] bool pressed() const { return pages_.size() > limit_pages_ && dirty_pages_ != 0; }
  [[nodiscard]] std::size_t size() const { return pages_.size(); }

 private:
  struct Run {
    uint64_t host_offset;
    uint64_t at;
    uint64_t length;
  };
  struct WriteJob;

  Page& insert(uint64_t table, uint32_t index, std::byte* memory);
  void remove(Page& page);
  void make_room();
  io::Task<void> write_runs(WriteJob& job);

  block::Edge& file_;
  const TableLocator& locator_;
  const FaultPoints points_;
  const uint32_t page_size_;
  const uint32_t dirty_shift_;  // log2 of the bytes that a bit of Page::dirty stands for
  const uint32_t pages_per_table_;
  const std::size_t limit_pages_;
  PageMemory memory_;
  // tables_[table][index]; the inner array exists once a page of the table was read.
  std::vector<std::unique_ptr<Page*[]>> tables_;
  std::vector<std::unique_ptr<Page>> pages_;
  std::size_t hand_ = 0;
  std::size_t dirty_pages_ = 0;
};

// Reads metadata; what lies beyond the end of the file reads as zeroes.
[[nodiscard]] io::Task<Result<void>> read_metadata(block::Edge& file, uint64_t offset,
                                                   std::span<std::byte> bytes);

}  // namespace cairn::qcow2
