// Qcow2Driver: what version 2 does not have. Zero clusters become unallocated, where nothing is
// behind them, or clusters full of zeroes.
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/driver.h"

namespace cairn::qcow2 {
namespace {

// Of an image with plain L2 entries and its data inside: no other can become one of version 2.
ClusterKind kind_of(uint64_t entry) { return Geometry{}.classify(entry); }

bool is_zero_entry(uint64_t entry) {
  const ClusterKind kind = kind_of(entry);
  return kind == ClusterKind::kZeroPlain || kind == ClusterKind::kZeroAllocated;
}

bool is_compressed_entry(uint64_t entry) { return kind_of(entry) == ClusterKind::kCompressed; }

}  // namespace

io::Task<Result<void>> Qcow2Driver::check_downgrade() {
  const Header& header = image_.header();
  if (header.has(kIncompatibleDataFile)) {
    co_return fail(ENOTSUP, "Cannot downgrade an image with a data file");
  }
  if ((header.incompatible_features & ~(kIncompatibleDirty | kIncompatibleCompression)) != 0) {
    co_return fail(ENOTSUP, "Cannot downgrade an image with incompatible features set");
  }
  const bool zstd = header.compression != CompressionType::kDeflate;
  if (header.snapshot_count != 0) {
    const Result<bool> zeroes = co_await snapshots_.any_entry(is_zero_entry);
    const Result<bool> compressed = co_await snapshots_.any_entry(is_compressed_entry);
    if (!zeroes || !compressed) {
      co_return std::unexpected(zeroes ? compressed.error() : zeroes.error());
    }
    if (*zeroes || (*compressed && zstd)) {
      co_return fail(ENOTSUP,
                     "Cannot downgrade an image whose snapshots have zero clusters or zstd data; "
                     "delete the snapshots first");
    }
  }
  if (encryption_ != nullptr) {
    // What takes the place of zero clusters would have to be encrypted.
    const Result<bool> zeroes = co_await any_entry(is_zero_entry);
    if (!zeroes) {
      co_return std::unexpected(zeroes.error());
    }
    if (*zeroes) {
      co_return fail(ENOTSUP, "Cannot downgrade an encrypted image with zero clusters");
    }
  }
  const Result<bool> compressed = co_await any_entry(is_compressed_entry);
  if (!compressed) {
    co_return std::unexpected(compressed.error());
  }
  if (*compressed && zstd) {
    co_return fail(ENOTSUP,
                   "Cannot downgrade an image with zstd compression type and existing compressed "
                   "clusters");
  }
  co_return Result<void>{};
}

// Whether an entry of the disk's tables is a wanted one.
io::Task<Result<bool>> Qcow2Driver::any_entry(bool (*wanted)(uint64_t entry)) {
  const Geometry& geometry = image_.geometry();
  const uint64_t end = mapping_.l1().size() * geometry.l2_coverage();
  for (uint64_t offset = 0; offset < end;) {
    if (!mapping_.has_table(offset)) {
      offset = mapping_.table_end(offset);
      continue;
    }
    Result<PagePin> page = co_await mapping_.readable_page(offset);
    if (!page) {
      co_return pass(page);
    }
    for (const uint64_t page_end = mapping_.page_end(offset); offset < page_end;
         offset += geometry.cluster_size()) {
      if (wanted(mapping_.entry(**page, offset))) {
        co_return true;
      }
    }
  }
  co_return false;
}

io::Task<Result<void>> Qcow2Driver::expand_zero_clusters() {
  const Geometry& geometry = image_.geometry();
  const uint64_t end = mapping_.l1().size() * geometry.l2_coverage();
  for (uint64_t offset = 0; offset < end;) {
    if (!mapping_.has_table(offset)) {
      offset = mapping_.table_end(offset);
      continue;
    }
    Result<void> ready = co_await prepare_write();
    if (!ready) {
      co_return ready;
    }
    Result<PagePin> page = co_await mapping_.readable_page(offset);
    if (!page) {
      co_return pass(page);
    }
    Result<uint64_t> reached = co_await expand_page(std::move(*page), offset);
    if (!reached) {
      co_return pass(reached);
    }
    offset = *reached;
  }
  co_return co_await settle_counts();
}

// Where the page ends.
io::Task<Result<uint64_t>> Qcow2Driver::expand_page(PagePin page, uint64_t offset) {
  const uint64_t cluster_size = image_.cluster_size();
  const uint64_t page_end = mapping_.page_end(offset);
  for (bool own = false; offset < page_end; offset += cluster_size) {
    const uint64_t entry = mapping_.entry(*page, offset);
    if (!is_zero_entry(entry)) {
      continue;
    }
    if (!own) {
      // A table that a snapshot shares is copied before it changes.
      Result<PagePin> writable = co_await mapping_.writable_page(offset);
      if (!writable) {
        co_return pass(writable);
      }
      page = std::move(*writable);
      own = true;
    }
    // What lies beyond the disk's end is nobody's.
    const bool hidden = image_.header().backing_file.empty() || offset >= length();
    if (hidden) {
      free_entry(entry, FreeCause::kOther);
      mapping_.set_entry(*page, offset, 0);
      continue;
    }
    const Result<uint64_t> host = co_await zeroed_cluster(entry);
    if (!host) {
      co_return std::unexpected(host.error());
    }
    if (*host != (entry & kEntryOffsetMask)) {
      free_entry(entry, FreeCause::kOther);
    }
    mapping_.set_entry(*page, offset, *host | kEntryCopied);
  }
  co_return offset;
}

// A host cluster full of zeroes for a zero cluster: its own, if it has one for itself.
io::Task<Result<uint64_t>> Qcow2Driver::zeroed_cluster(uint64_t entry) {
  uint64_t host = entry & kEntryOffsetMask;
  bool reads_zero = false;
  const bool own = host != 0 && (entry & kEntryCopied) != 0;
  if (!own) {
    const Result<Refcounts::Allocation> space = co_await refcounts_.allocate(1);
    if (!space) {
      co_return std::unexpected(space.error());
    }
    host = space->host_offset;
    reads_zero = space->reads_zero;
  }
  Result<void> filled;
  if (!reads_zero) {
    filled = co_await image_.file().write_zeroes(host, image_.cluster_size(), {});
  } else if (image_.file().length() < host + image_.cluster_size()) {
    filled = co_await image_.file().resize(host + image_.cluster_size(), {});
  }
  if (!filled) {
    if (!own) {
      const Result<void> released = co_await refcounts_.release(host, 1);
      static_cast<void>(released);
    }
    co_return pass(filled);
  }
  co_return host;
}

}  // namespace cairn::qcow2
