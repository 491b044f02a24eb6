// Qcow2Driver: what the overlap checks protect when an image is opened, and what they call it.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/page_cache.h"

namespace cairn::qcow2 {

namespace {

// An image can name more and larger L1 tables than there are bytes in it. Nobody waits longer for
// `overlap-check=all` than it takes to read this much.
constexpr uint64_t kMostInactiveL1Bytes = uint64_t{256} << 20;

}  // namespace

void Qcow2Driver::protect_header() {
  const Header& header = image_.header();
  OverlapGuard& guard = image_.guard();
  guard.protect(MetadataKind::kHeader, 0, image_.cluster_size());
  guard.protect(MetadataKind::kActiveL1, header.l1_table_offset, header.l1_size * kL1EntryBytes);
  guard.protect(MetadataKind::kRefcountTable, header.refcount_table_offset,
                header.refcount_table_clusters * image_.cluster_size());
  const auto directory = header.bitmap_directory();
  if (directory && (header.autoclear_features & kAutoclearBitmaps) != 0) {
    guard.protect(MetadataKind::kBitmapDirectory, directory->offset, directory->length);
  }
}

// Reads the L1 tables of all snapshots for `overlap-check.inactive-l2`: when the image is opened,
// and when its snapshots have changed. EFBIG when they are larger than makes sense.
io::Task<Result<void>> Qcow2Driver::protect_inactive_l2() {
  if (!image_.guard().checks().inactive_l2) {
    co_return Result<void>{};
  }
  image_.guard().set_inactive_l2(MetadataMap(image_.geometry().cluster_bits));
  MetadataMap tables(image_.geometry().cluster_bits);
  uint64_t budget = kMostInactiveL1Bytes;
  std::vector<std::byte> raw;
  for (const SnapshotEntry& snapshot : snapshots_.table().entries()) {
    const uint64_t bytes = snapshot.l1_entries * kL1EntryBytes;
    if (bytes > kMaxL1Bytes || bytes > budget) {
      co_return fail(EFBIG, "The snapshots' L1 tables are too large for overlap-check.inactive-l2");
    }
    if (snapshot.l1_offset >= image_.file().length()) {
      continue;  // nothing but zeroes
    }
    budget -= bytes;
    raw.resize(bytes);
    Result<void> read = co_await read_metadata(image_.file(), snapshot.l1_offset, raw);
    if (!read) {
      co_return pass(read, "Could not read the L1 table of a snapshot: ");
    }
    for (uint64_t at = 0; at < bytes; at += kL1EntryBytes) {
      const uint64_t offset = load_be<uint64_t>(raw.data() + at) & kEntryOffsetMask;
      if (offset != 0) {
        tables.add(offset, 1);
      }
    }
  }
  image_.guard().set_inactive_l2(std::move(tables));
  // An active table that claims to be nobody else's is written in place.
  for (const uint64_t entry : mapping_.l1()) {
    const uint64_t offset = entry & kEntryOffsetMask;
    if ((entry & kEntryCopied) != 0 && image_.guard().is_inactive_l2(offset)) {
      image_.guard().contest(offset, 1);
    }
  }
  co_return Result<void>{};
}

// What metadata lies in the cluster of `host_offset`, as messages name it; of two structures there,
// the one that is not of the kind `writing`.
std::string Qcow2Driver::describe(uint64_t host_offset, MetadataKind writing) const {
  const Header& header = image_.header();
  const uint64_t cluster = align_down(host_offset, image_.cluster_size());
  const auto in = [&](uint64_t offset, uint64_t length) {
    return length != 0 && cluster >= align_down(offset, image_.cluster_size()) &&
           cluster < offset + length;
  };
  const auto owners = [&](const std::vector<uint64_t>& entries) {
    return std::ranges::count_if(entries,
                                 [&](uint64_t e) { return (e & kEntryOffsetMask) == cluster; });
  };
  if (cluster == 0) {
    return "qcow2_header";
  }
  using enum MetadataKind;
  if (writing != kActiveL1 && in(mapping_.l1_offset(), mapping_.l1().size() * kL1EntryBytes)) {
    return "active L1 table";
  }
  if (writing != kActiveL2 && owners(mapping_.l1()) != 0) {
    return "active L2 table";
  }
  if (writing != kRefcountTable && in(refcounts_.table_offset(), refcounts_.table_length())) {
    return "refcount table";
  }
  if (writing != kRefcountBlock && owners(refcounts_.table()) != 0) {
    return "refcount block";
  }
  if (in(header.snapshots_offset, snapshots_.table().length_on_disk())) {
    return "snapshot table";
  }
  if (image_.guard().is_inactive_l2(cluster)) {
    return "inactive L2 table";
  }
  if (const auto directory = header.bitmap_directory();
      directory && in(directory->offset, directory->length)) {
    return "bitmap directory";
  }
  // Two of the same kind, or the only kind that has not been looked at.
  if (writing == kActiveL2 && owners(mapping_.l1()) > 1) {
    return "active L2 table";
  }
  if (writing == kRefcountBlock && owners(refcounts_.table()) > 1) {
    return "refcount block";
  }
  return "inactive L1 table";
}

}  // namespace cairn::qcow2
