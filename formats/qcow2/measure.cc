// How large a new qcow2 image would be, without making it.
//
// Counted is what a finished image holds: the header, the refcount table and its blocks, the L1
// table, every L2 table, and data clusters. Refcounts cover the image with all of its disk written,
// so that an image which is measured to fit goes on fitting while it fills up.
#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "block/bitmap_store.h"
#include "block/dirty_bitmap.h"
#include "block/node.h"
#include "formats/qcow2/create.h"
#include "formats/qcow2/layout.h"

namespace cairn::qcow2 {
namespace {

// Section "Bitmap directory": what an entry has in front of the name.
constexpr uint64_t kBitmapEntryBytes = 24;
constexpr uint64_t kBitmapTableEntryBytes = 8;
constexpr uint64_t kAlignment = 8;

// Clusters of an image with this geometry that a copy of `source` writes to.
io::Task<Result<uint64_t>> clusters_with_data(block::Edge& source, uint64_t cluster_size) {
  uint64_t clusters = 0;
  uint64_t counted_end = 0;
  for (uint64_t offset = 0; offset < source.length();) {
    const Result<block::ChainStatus> found =
        co_await source.chain_status(offset, source.length() - offset);
    if (!found) {
      co_return std::unexpected(found.error());
    }
    const block::BlockStatus& status = found->status;
    if (status.data && !status.zero) {
      const uint64_t begin = std::max(counted_end, align_down(offset, cluster_size));
      counted_end = std::max(begin, align_up(offset + status.length, cluster_size));
      clusters += (counted_end - begin) / cluster_size;
    }
    offset += status.length;
  }
  co_return clusters;
}

// Bytes for the persistent bitmaps of the source; nothing when it is of a kind that has none.
std::optional<uint64_t> bitmaps_size(const block::Edge& source, uint64_t cluster_size) {
  const block::Node& node = source.node();
  const block::BitmapStore* store = node.driver().bitmap_store();
  if (store == nullptr || !store->supported()) {
    return std::nullopt;
  }
  uint64_t size = 0;
  uint64_t directory = 0;
  if (const block::DirtyBitmaps* bitmaps = node.bitmaps()) {
    for (const auto& bitmap : bitmaps->all()) {
      if (!bitmap->persistent() || bitmap->inconsistent()) {
        continue;
      }
      const uint64_t bits = div_round_up(source.length(), bitmap->granularity());
      const uint64_t clusters = div_round_up(div_round_up(bits, uint64_t{8}), cluster_size);
      size += clusters * cluster_size + align_up(clusters * kBitmapTableEntryBytes, cluster_size);
      directory += align_up(kBitmapEntryBytes + bitmap->name().size(), kAlignment);
    }
  }
  return size + align_up(directory, cluster_size);
}

}  // namespace

uint64_t clusters_in_use(const Geometry& geometry, uint64_t size, uint64_t data_clusters) {
  const uint64_t cluster_size = geometry.cluster_size();
  const uint64_t tables = geometry.l1_entries_for(size);
  const uint64_t counted = 1 + tables + div_round_up(tables * kL1EntryBytes, cluster_size);
  const uint64_t all = counted + div_round_up(size, cluster_size);
  // Refcount blocks and their table count themselves, too; it settles in a few rounds.
  uint64_t refcounts = 0;
  uint64_t before = 0;
  do {
    before = refcounts;
    const uint64_t blocks = div_round_up(all + refcounts, geometry.refcount_block_entries());
    refcounts = blocks + div_round_up(blocks * kRefcountTableEntryBytes, cluster_size);
  } while (refcounts != before);
  return counted + refcounts + data_clusters;
}

io::Task<Result<block::MeasuredSize>> measure_image(const block::CreateOptions& options,
                                                    block::Edge* source) {
  Result<CreateParameters> parameters = parse_measure_options(options);
  if (!parameters) {
    co_return pass(parameters);
  }
  if (auto checked = check_geometry(*parameters); !checked) {
    co_return pass(checked);
  }
  if (parameters->crypt_method != CryptMethod::kNone && !parameters->luks.secret) {
    co_return fail(EINVAL, "Parameter 'encrypt.key-secret' is required for cipher");
  }
  const Geometry geometry = geometry_of(*parameters);
  const uint64_t cluster_size = geometry.cluster_size();
  const uint64_t all = div_round_up(parameters->size, cluster_size);
  block::MeasuredSize measured;
  measured.fully_allocated = clusters_in_use(geometry, parameters->size, all) * cluster_size;
  const bool takes_all = parameters->preallocation == block::Preallocation::kFalloc ||
                         parameters->preallocation == block::Preallocation::kFull;
  uint64_t data = takes_all ? all : 0;
  if (source != nullptr) {
    if (parameters->version >= 3) {
      measured.bitmaps = bitmaps_size(*source, cluster_size);
    }
    if (!takes_all && !parameters->backing_file.empty()) {
      // How much of what lies below the source lies below the copy, too, nobody can tell.
      data = all;
    } else if (!takes_all) {
      const Result<uint64_t> clusters = co_await clusters_with_data(*source, cluster_size);
      if (!clusters) {
        co_return std::unexpected(clusters.error());
      }
      data = *clusters;
    }
  }
  measured.required = clusters_in_use(geometry, parameters->size, data) * cluster_size;
  const uint64_t crypt_header = align_up(parameters->crypt_header_length(), cluster_size);
  measured.required += crypt_header;
  measured.fully_allocated += crypt_header;
  co_return measured;
}

}  // namespace cairn::qcow2
