#include "formats/qcow2/page_cache.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>

#include "base/bytes.h"
#include "block/node.h"
#include "io/task_group.h"

namespace cairn::qcow2 {

namespace {

// Neighbouring pieces are joined into writes of at most this many bytes, of which a few are under
// way at a time.
constexpr uint64_t kLargestWrite = 1 << 20;
constexpr std::size_t kWriters = 8;

}  // namespace

struct PageCache::WriteJob {
  const std::byte* data;
  std::vector<Run> runs;
  std::size_t next = 0;
  Result<void> result;
};

PageCache::PageCache(block::Edge& file, const TableLocator& locator, FaultPoints points,
                     uint64_t table_bytes, uint64_t limit, uint64_t page_bytes)
    : file_(file),
      locator_(locator),
      points_(points),
      page_size_(static_cast<uint32_t>(page_bytes)),
      dirty_shift_(static_cast<uint32_t>(std::countr_zero(std::max(kSector, page_size_ / 8)))),
      pages_per_table_(static_cast<uint32_t>(table_bytes / page_size_)),
      limit_pages_(std::max<uint64_t>(div_round_up(limit, page_size_), 4)),
      memory_(page_size_) {}

PageCache::~PageCache() {
  assert(std::all_of(pages_.begin(), pages_.end(), [](const auto& p) { return p->pins == 0; }) &&
         "a pinned page outlives its cache");
  for (const auto& page : pages_) {
    memory_.give_back(page->memory);
  }
}

io::Task<Result<PagePin>> PageCache::get(uint64_t table, uint32_t index) {
  if (tables_[table] == nullptr) {
    tables_[table] = std::make_unique<Page*[]>(pages_per_table_);
  }
  for (Page* page = tables_[table][index]; page != nullptr; page = tables_[table][index]) {
    if (page->loading == nullptr) {
      page->referenced = true;
      co_return PagePin(*page);
    }
    // The page goes away when its load fails; then this one tries, too.
    const std::shared_ptr<io::Event> loaded = page->loading;
    co_await loaded->wait();
  }
  make_room();
  const Result<std::byte*> memory = memory_.take();
  if (!memory) {
    co_return std::unexpected(memory.error());
  }
  PagePin pin(insert(table, index, *memory));
  Page& page = *pin;
  const auto loaded = std::make_shared<io::Event>();
  page.loading = loaded;
  const uint64_t host_offset = locator_.table_offset(table) + uint64_t{index} * page_size_;
  co_await block::fault_point(file_, points_.load);
  Result<void> read = co_await read_metadata(file_, host_offset, {page.memory, page_size_});
  page.loading = nullptr;
  if (!read) {
    pin = PagePin();
    remove(page);
    loaded->set();
    co_return pass(read);
  }
  loaded->set();
  co_return pin;
}

Page& PageCache::insert(uint64_t table, uint32_t index, std::byte* memory) {
  auto page = std::make_unique<Page>();
  page->table = table;
  page->index = index;
  page->position = static_cast<uint32_t>(pages_.size());
  page->referenced = true;
  page->memory = memory;
  tables_[table][index] = page.get();
  pages_.push_back(std::move(page));
  return *pages_.back();
}

void PageCache::remove(Page& page) {
  assert(page.pins == 0);
  if (page.dirty != 0) {
    --dirty_pages_;
  }
  tables_[page.table][page.index] = nullptr;
  memory_.give_back(page.memory);
  const uint32_t position = page.position;
  if (position + 1 != pages_.size()) {
    std::swap(pages_[position], pages_.back());
    pages_[position]->position = position;
  }
  pages_.pop_back();
}

// Second-chance eviction of clean pages; gives up after two rounds.
void PageCache::make_room() {
  std::size_t looks = 2 * pages_.size();
  while (pages_.size() >= limit_pages_ && looks-- > 0) {
    if (hand_ >= pages_.size()) {
      hand_ = 0;
    }
    Page& page = *pages_[hand_];
    if (page.pins != 0 || page.dirty != 0 || page.loading != nullptr) {
      ++hand_;
    } else if (page.referenced) {
      page.referenced = false;
      ++hand_;
    } else {
      remove(page);
    }
  }
}

void PageCache::forget_unused() {
  for (std::size_t i = pages_.size(); i-- > 0;) {  // removal moves the last page to where one was
    Page& page = *pages_[i];
    if (page.pins == 0 && page.dirty == 0 && page.loading == nullptr && !page.referenced) {
      remove(page);
    } else {
      page.referenced = false;
    }
  }
}

void PageCache::mark_dirty(Page& page, uint32_t byte_offset, uint32_t length) {
  if (page.dirty == 0) {
    ++dirty_pages_;
  }
  const uint32_t last = (byte_offset + length - 1) >> dirty_shift_;
  for (uint32_t unit = byte_offset >> dirty_shift_; unit <= last; ++unit) {
    page.dirty = static_cast<uint8_t>(page.dirty | (1u << unit));
  }
}

void PageCache::drop_table(uint64_t table) {
  if (tables_[table] == nullptr) {
    return;
  }
  for (uint32_t index = 0; index < pages_per_table_; ++index) {
    if (Page* page = tables_[table][index]; page != nullptr) {
      remove(*page);
    }
  }
  tables_[table] = nullptr;
}

Result<DirtyPages> PageCache::take_dirty() {
  DirtyPages taken;
  if (dirty_pages_ == 0) {
    return taken;
  }
  uint64_t bytes = 0;
  for (const auto& page : pages_) {
    if (page->dirty == 0) {
      continue;
    }
    // From the first to the last dirty unit; the clean ones between are as they are on disk.
    const auto first = static_cast<uint32_t>(std::countr_zero(page->dirty));
    const auto last = static_cast<uint32_t>(std::bit_width(page->dirty)) - 1;
    const uint64_t base = locator_.table_offset(page->table) + uint64_t{page->index} * page_size_;
    taken.pieces.push_back({.page = page.get(),
                            .mask = page->dirty,
                            .host_offset = base + (uint64_t{first} << dirty_shift_),
                            .length = (last - first + 1) << dirty_shift_});
    bytes += taken.pieces.back().length;
  }
  auto data = io::AlignedBuffer::allocate(bytes);
  if (!data) {
    return pass(data);
  }
  taken.data = std::move(*data);
  std::sort(taken.pieces.begin(), taken.pieces.end(),
            [](const auto& a, const auto& b) { return a.host_offset < b.host_offset; });
  uint64_t at = 0;
  for (DirtyPages::Piece& piece : taken.pieces) {
    piece.at = at;
    std::memcpy(taken.data.data() + at, piece.page->data() + piece.host_offset % page_size_,
                piece.length);
    at += piece.length;
    ++piece.page->pins;
    piece.page->dirty = 0;
  }
  dirty_pages_ = 0;
  return taken;
}

io::Task<Result<void>> PageCache::write(DirtyPages& pages) {
  WriteJob job{.data = pages.data.data()};
  for (const DirtyPages::Piece& piece : pages.pieces) {
    if (!job.runs.empty()) {
      Run& run = job.runs.back();
      if (run.host_offset + run.length == piece.host_offset &&
          run.length + piece.length <= kLargestWrite) {
        run.length += piece.length;
        continue;
      }
    }
    job.runs.push_back({piece.host_offset, piece.at, piece.length});
  }
  if (job.runs.size() <= 1) {
    co_await write_runs(job);
    co_return std::move(job.result);
  }
  io::TaskGroup writers;
  for (std::size_t i = 0; i < std::min(kWriters, job.runs.size()); ++i) {
    writers.spawn(write_runs(job));
  }
  co_await writers.join();
  co_return std::move(job.result);
}

io::Task<void> PageCache::write_runs(WriteJob& job) {
  while (job.next < job.runs.size() && job.result) {
    const Run run = job.runs[job.next++];
    co_await block::fault_point(file_, points_.update);
    Result<void> written = co_await file_.write(run.host_offset, job.data + run.at, run.length);
    if (!written && job.result) {
      job.result = std::move(written);
    }
  }
}

void PageCache::settle(DirtyPages& pages, bool success) {
  for (const DirtyPages::Piece& piece : pages.pieces) {
    Page& page = *piece.page;
    --page.pins;
    if (!success) {
      if (page.dirty == 0) {
        ++dirty_pages_;
      }
      page.dirty |= piece.mask;
    }
  }
  pages.pieces.clear();
}

io::Task<Result<void>> read_metadata(block::Edge& file, uint64_t offset,
                                     std::span<std::byte> bytes) {
  const uint64_t end = file.length();
  const uint64_t present = offset < end ? std::min<uint64_t>(bytes.size(), end - offset) : 0;
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(present), bytes.end(), std::byte{0});
  if (present == 0) {
    co_return Result<void>{};
  }
  co_return co_await file.read(offset, bytes.data(), present);
}

}  // namespace cairn::qcow2
