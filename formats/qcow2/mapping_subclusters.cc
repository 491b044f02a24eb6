// Mapping with extended L2 entries (section "Extended L2 Entries"): what holds for a cluster
// elsewhere holds here for each of its subclusters, but for compressed clusters, which have none.
#include <algorithm>

#include "base/bytes.h"
#include "formats/qcow2/mapping.h"

namespace cairn::qcow2 {

using block::Extent;

bool Mapping::peek_subclusters(uint64_t offset, Subclusters& found) const {
  found = Subclusters{};
  if (!has_table(offset)) {
    found.span = table_end(offset) - offset;
    return true;
  }
  Page* page = pages_.find(l1_index(offset), page_index(offset));
  if (page == nullptr) {
    return false;
  }
  page->referenced = true;
  found.entry = entry(*page, offset);
  found.bitmap = subclusters(*page, offset);
  return true;
}

// How far the extent that begins at `offset`, in the cluster of `first`, goes on.
uint64_t Mapping::run_of_subclusters(uint64_t offset, uint64_t length,
                                     const Subclusters& first) const {
  const uint64_t subcluster = image_.geometry().subcluster_size();
  const uint64_t in_cluster = offset & cluster_mask_;
  const auto begin = static_cast<uint32_t>(in_cluster / subcluster);
  const SubclusterKind kind = first.bitmap.kind(begin);
  const uint64_t end_in_cluster = (begin + first.bitmap.run(begin)) * subcluster;
  if (first.span == 0 && end_in_cluster < image_.cluster_size()) {
    return std::min(length, end_in_cluster - in_cluster);
  }
  uint64_t covered = first.span != 0 ? first.span : image_.cluster_size() - in_cluster;
  const bool has_place = image_.geometry().has_place(first.entry);
  uint64_t expected = first.entry;
  while (covered < length) {
    expected += has_place ? image_.cluster_size() : 0;
    Subclusters next;
    if (!peek_subclusters(offset + covered, next) || (next.entry & kEntryCompressed) != 0 ||
        !sensible(image_.geometry(), next.entry, next.bitmap) || next.bitmap.kind(0) != kind ||
        next.entry != expected) {
      break;
    }
    const uint32_t run = next.bitmap.run(0);
    covered += next.span != 0 ? next.span : run * subcluster;
    if (run < kSubclustersPerCluster) {
      break;
    }
  }
  return std::min(covered, length);
}

bool Mapping::try_map_subclusters(uint64_t offset, uint64_t length, Extent& extent) {
  Subclusters found;
  if (!peek_subclusters(offset, found)) {
    return false;
  }
  extent = Extent{};
  if ((found.entry & kEntryCompressed) != 0) {
    return map_compressed(offset, length, found.entry, extent);
  }
  const uint64_t host = found.entry & kEntryOffsetMask;
  const bool placed = image_.geometry().has_place(found.entry);
  if ((placed && !place_is_right(offset, host)) ||
      !sensible(image_.geometry(), found.entry, found.bitmap)) {
    return false;  // map() says what is wrong
  }
  const uint64_t in_cluster = offset & cluster_mask_;
  const auto subcluster = static_cast<uint32_t>(in_cluster / image_.geometry().subcluster_size());
  extent.length = run_of_subclusters(offset, length, found);
  switch (found.bitmap.kind(subcluster)) {
    case SubclusterKind::kData:
      place_data(offset, found.entry, extent);
      break;
    case SubclusterKind::kZero:
    case SubclusterKind::kUnallocated:
      extent.kind = found.bitmap.kind(subcluster) == SubclusterKind::kZero ? Extent::Kind::kZero
                                                                           : Extent::Kind::kHole;
      extent.child = &image_.data();
      extent.host_valid = placed;
      extent.host_offset = host + in_cluster;
      break;
  }
  return true;
}

}  // namespace cairn::qcow2
