#include "tests/support/qcow2_verifier.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bytes.h"

namespace cairn::testing {
namespace {

constexpr uint64_t kOffsetMask = 0x00fffffffffffe00U;
constexpr uint64_t kCopiedFlag = uint64_t{1} << 63;
constexpr uint64_t kCompressedFlag = uint64_t{1} << 62;
constexpr uint64_t kZeroesFlag = 1;
constexpr uint64_t kDirty = 1;
constexpr uint64_t kExternalData = 4;
constexpr uint64_t kExtendedL2 = 16;
constexpr uint64_t kUnderstoodIncompatible =
    kDirty | kExternalData | 8 | kExtendedL2;  // 8: compression type
constexpr uint64_t kSubclusters = 32;

}  // namespace

const char* Qcow2Verifier::name_of(Use use) {
  switch (use) {
    case Use::kHeader:
      return "header";
    case Use::kL1:
      return "L1 table";
    case Use::kL2:
      return "L2 table";
    case Use::kRefcountTable:
      return "refcount table";
    case Use::kRefcountBlock:
      return "refcount block";
    case Use::kSnapshots:
      return "snapshot table";
    case Use::kBitmapDirectory:
      return "bitmap directory";
    case Use::kBitmapTable:
      return "bitmap table";
    case Use::kBitmapData:
      return "bitmap data";
    case Use::kData:
      return "data";
    case Use::kCompressed:
      return "compressed data";
  }
  return "?";
}

bool Qcow2Verifier::read_header() {
  version_ = static_cast<int>(field<uint32_t>(4));
  if (field<uint32_t>(0) != 0x514649fb || (version_ != 2 && version_ != 3)) {
    corrupt("the header is not that of a qcow2 image");
    return false;
  }
  cluster_bits_ = field<uint32_t>(20);
  l1_entries_ = field<uint32_t>(36);
  l1_offset_ = field<uint64_t>(40);
  refcount_table_offset_ = field<uint64_t>(48);
  refcount_table_clusters_ = field<uint32_t>(56);
  snapshots_ = field<uint32_t>(60);
  snapshots_offset_ = field<uint64_t>(64);
  if (version_ == 3) {
    incompatible_ = field<uint64_t>(72);
    lazy_refcounts_ = (field<uint64_t>(80) & 1) != 0;
    autoclear_ = field<uint64_t>(88);
    header_length_ = field<uint32_t>(100);
    refcount_order_ = field<uint32_t>(96);
    compression_ = field<uint32_t>(100) > 104 ? field<uint8_t>(104) : 0;
  }
  if (cluster_bits_ < 9 || cluster_bits_ > 21 || refcount_order_ > 6) {
    corrupt("cluster size or refcount width out of range");
    return false;
  }
  if ((incompatible_ & ~kUnderstoodIncompatible) != 0) {
    corrupt("incompatible features ", incompatible_, " that nothing here should set");
    return false;
  }
  if (((incompatible_ & kExternalData) != 0) != (data_ != nullptr)) {
    corrupt("the image and its data file do not go together");
    return false;
  }
  cluster_size_ = uint64_t{1} << cluster_bits_;
  extended_ = (incompatible_ & kExtendedL2) != 0;
  l2_entry_bytes_ = extended_ ? 16 : 8;
  if (extended_ && cluster_bits_ < 14) {
    corrupt("subclusters would be smaller than a sector");
    return false;
  }
  const std::vector<std::byte> name = image_.read(field<uint64_t>(8), field<uint32_t>(16));
  backing_file_.assign(reinterpret_cast<const char*>(name.data()), name.size());
  size_ = field<uint64_t>(24);
  report_.dirty = (incompatible_ & kDirty) != 0;
  for (const uint64_t offset : {l1_offset_, refcount_table_offset_, snapshots_offset_}) {
    if (offset % cluster_size_ != 0) {
      corrupt("a table in the header is not aligned to clusters");
      return false;
    }
  }
  return true;
}

// Compressed clusters share host clusters with each other; snapshots share tables and data.
bool Qcow2Verifier::may_share(Use use) const {
  return use == Use::kCompressed || (snapshots_ > 0 && (use == Use::kData || use == Use::kL2));
}

void Qcow2Verifier::refer(uint64_t offset, uint64_t length, Use use, const std::string& where) {
  if (length == 0) {
    return;
  }
  if (use != Use::kData && use != Use::kCompressed && offset >= image_.size()) {
    corrupt(where, ": ", name_of(use), " at ", offset, " lies beyond the end of the file");
  }
  for (uint64_t cluster = offset >> cluster_bits_;
       cluster <= (offset + length - 1) >> cluster_bits_; ++cluster) {
    auto [it, added] = references_.try_emplace(cluster);
    if (added) {
      it->second.use = use;
    } else if (it->second.use != use || !may_share(use)) {
      corrupt(where, ": cluster ", cluster, " is ", name_of(use), " and ", name_of(it->second.use));
    }
    ++it->second.count;
  }
}

void Qcow2Verifier::walk_refcounts() {
  const uint64_t entries = (refcount_table_clusters_ << cluster_bits_) / 8;
  const uint64_t per_block = (cluster_size_ * 8) >> refcount_order_;
  const unsigned bits = 1U << refcount_order_;
  refer(refcount_table_offset_, entries * 8, Use::kRefcountTable, "header");
  for (uint64_t i = 0; i < entries; ++i) {
    const auto block = field<uint64_t>(refcount_table_offset_ + i * 8);
    if (block == 0) {
      continue;
    }
    const std::string where = fmt::format("refcount table entry {}", i);
    if (block % cluster_size_ != 0) {
      corrupt(where, ": block at ", block, " is not aligned");
      continue;
    }
    refer(block, cluster_size_, Use::kRefcountBlock, where);
    const std::vector<std::byte> raw = image_.read(block, cluster_size_);
    for (uint64_t k = 0; k < per_block; ++k) {
      uint64_t value = 0;
      if (bits >= 8) {
        for (unsigned byte = 0; byte < bits / 8; ++byte) {
          value = value << 8 | std::to_integer<uint64_t>(raw[k * (bits / 8) + byte]);
        }
      } else {  // Narrow ones start at the least significant bits of a byte.
        value = std::to_integer<uint64_t>(raw[k * bits / 8]) >> (k * bits % 8) & ((1U << bits) - 1);
      }
      if (value != 0) {
        refcounts_[i * per_block + k] = value;
      }
    }
  }
}

uint64_t Qcow2Verifier::refcount(uint64_t cluster) const {
  const auto it = refcounts_.find(cluster);
  return it == refcounts_.end() ? 0 : it->second;
}

void Qcow2Verifier::check_copied(uint64_t offset, bool copied, const std::string& where) {
  if (!report_.dirty && copied != (refcount(offset >> cluster_bits_) == 1)) {
    corrupt(where, ": COPIED is ", copied, " but the refcount of ", offset, " is ",
            refcount(offset >> cluster_bits_));
  }
}

void Qcow2Verifier::walk_l1(uint64_t offset, uint64_t entries, bool active,
                            const std::string& where) {
  refer(offset, entries * 8, Use::kL1, where);
  for (uint64_t i = 0; i < entries; ++i) {
    const auto entry = field<uint64_t>(offset + i * 8);
    const uint64_t table = entry & kOffsetMask;
    if (table == 0) {
      continue;
    }
    const std::string place = fmt::format("{} entry {}", where, i);
    if (table % cluster_size_ != 0) {
      corrupt(place, ": L2 table at ", table, " is not aligned");
      continue;
    }
    refer(table, cluster_size_, Use::kL2, place);
    if (active) {
      check_copied(table, (entry & kCopiedFlag) != 0, place);
    }
    walk_l2(table, i * (cluster_size_ / l2_entry_bytes_) * cluster_size_, active, place);
  }
}

void Qcow2Verifier::walk_l2(uint64_t offset, uint64_t guest, bool active,
                            const std::string& where) {
  const std::vector<std::byte> raw = image_.read(offset, cluster_size_);
  for (uint64_t i = 0; i < cluster_size_ / l2_entry_bytes_; ++i) {
    const std::byte* const stored = raw.data() + i * l2_entry_bytes_;
    const auto entry = load_be<uint64_t>(stored);
    const auto bitmap = extended_ ? load_be<uint64_t>(stored + 8) : 0;
    if (bitmap != 0) {
      check_subclusters(entry, bitmap, fmt::format("{} L2 entry {}", where, i));
    }
    if (entry != 0 && data_ != nullptr) {
      check_external_entry(guest + i * cluster_size_, entry,
                           fmt::format("{} L2 entry {}", where, i));
    } else if (entry != 0) {
      check_data_entry(entry, active, fmt::format("{} L2 entry {}", where, i));
    }
  }
}

void Qcow2Verifier::check_subclusters(uint64_t entry, uint64_t bitmap, const std::string& where) {
  const auto data = static_cast<uint32_t>(bitmap);
  const auto zero = static_cast<uint32_t>(bitmap >> 32);
  if ((entry & kCompressedFlag) != 0) {
    corrupt(where, ": a compressed cluster has subclusters");
  } else if ((data & zero) != 0) {
    corrupt(where, ": a subcluster has data and reads as zeroes");
  } else if (data != 0 && !has_place(entry)) {
    corrupt(where, ": subclusters have data, but no place");
  }
}

// Offset 0 is a place in a data file, and the flag says that it is meant.
bool Qcow2Verifier::has_place(uint64_t entry) const {
  return (entry & kOffsetMask) != 0 || (data_ != nullptr && (entry & kCopiedFlag) != 0);
}

void Qcow2Verifier::check_external_entry(uint64_t guest, uint64_t entry, const std::string& where) {
  if ((entry & kCompressedFlag) != 0) {
    corrupt(where, ": a compressed cluster with an external data file");
    return;
  }
  if ((entry & ~(kOffsetMask | kCopiedFlag | kZeroesFlag)) != 0 ||
      ((entry & kZeroesFlag) != 0 && extended_)) {
    corrupt(where, ": reserved bits are set");
  }
  if (has_place(entry) && ((entry & kOffsetMask) != guest || (entry & kCopiedFlag) == 0)) {
    corrupt(where, ": data of guest offset ", guest, " at ", entry & kOffsetMask, " of its file");
  }
}

void Qcow2Verifier::check_data_entry(uint64_t entry, bool active, const std::string& where) {
  if ((entry & kCompressedFlag) != 0) {
    const unsigned offset_bits = 62 - (cluster_bits_ - 8);
    const uint64_t offset = entry & ((uint64_t{1} << offset_bits) - 1);
    const uint64_t sectors = ((entry & ~(kCompressedFlag | kCopiedFlag)) >> offset_bits) + 1;
    if ((entry & kCopiedFlag) != 0) {
      corrupt(where, ": COPIED is set on a compressed cluster");
    }
    refer(offset, sectors * 512 - offset % 512, Use::kCompressed, where);
    return;
  }
  const uint64_t offset = entry & kOffsetMask;
  if ((entry & ~(kOffsetMask | kCopiedFlag | kZeroesFlag)) != 0 ||
      ((entry & kZeroesFlag) != 0 && (version_ < 3 || extended_))) {
    corrupt(where, ": reserved bits are set");
  }
  if (offset == 0) {
    return;
  }
  if (offset % cluster_size_ != 0) {
    corrupt(where, ": data at ", offset, " is not aligned");
    return;
  }
  refer(offset, cluster_size_, Use::kData, where);
  if (active) {
    check_copied(offset, (entry & kCopiedFlag) != 0, where);
  }
}

void Qcow2Verifier::walk_snapshots() {
  uint64_t offset = snapshots_offset_;
  for (uint64_t i = 0; i < snapshots_; ++i) {
    const auto l1_offset = field<uint64_t>(offset);
    const auto l1_entries = field<uint32_t>(offset + 8);
    const uint64_t extra = field<uint32_t>(offset + 36);
    const uint64_t id_length = field<uint16_t>(offset + 12);
    const uint64_t name_length = field<uint16_t>(offset + 14);
    const uint64_t length = 40 + extra + id_length + name_length;
    walk_l1(l1_offset, l1_entries, false, fmt::format("snapshot {}", i));
    const std::vector<std::byte> name = image_.read(offset + 40 + extra + id_length, name_length);
    snapshot_list_.push_back({.name = {reinterpret_cast<const char*>(name.data()), name.size()},
                              .size = extra >= 16 ? field<uint64_t>(offset + 48) : size_,
                              .l1_offset = l1_offset,
                              .l1_entries = l1_entries});
    offset += align_up(length, 8);
  }
  refer(snapshots_offset_, offset - snapshots_offset_, Use::kSnapshots, "header");
}

void Qcow2Verifier::leaked(uint64_t cluster) {
  ++report_.leaks;
  report_.leaks_in_file += cluster << cluster_bits_ < image_.size() ? 1 : 0;
}

void Qcow2Verifier::compare() {
  for (const auto& [cluster, references] : references_) {
    const uint64_t count = refcount(cluster);
    if (count < references.count) {
      corrupt("cluster ", cluster, " (", name_of(references.use), ") has refcount ", count, " but ",
              references.count, " references");
    } else if (count > references.count) {
      leaked(cluster);
    }
  }
  for (const auto& [cluster, count] : refcounts_) {
    if (!references_.contains(cluster)) {
      leaked(cluster);
    }
  }
}

Qcow2Verifier::Report Qcow2Verifier::verify() {
  report_ = {};
  references_.clear();
  refcounts_.clear();
  snapshot_list_.clear();
  bitmap_list_.clear();
  size_ = 0;
  if (!read_header()) {
    return report_;
  }
  refer(0, cluster_size_, Use::kHeader, "header");
  walk_refcounts();
  walk_l1(l1_offset_, l1_entries_, true, "L1");
  walk_snapshots();
  walk_extensions();
  if (!report_.dirty) {
    compare();
  }
  const uint64_t per_table = cluster_size_ / l2_entry_bytes_ * cluster_size_;
  if (div_round_up(size_, per_table) > l1_entries_) {
    corrupt("the L1 table is too short for ", size_, " bytes");
  }
  return report_;
}

Result<void> Qcow2Verifier::inflate(uint64_t entry, std::span<std::byte> cluster) const {
  const unsigned offset_bits = 62 - (cluster_bits_ - 8);
  const uint64_t offset = entry & ((uint64_t{1} << offset_bits) - 1);
  const uint64_t sectors = ((entry & ~(kCompressedFlag | kCopiedFlag)) >> offset_bits) + 1;
  const std::vector<std::byte> stored = image_.read(offset, sectors * 512 - offset % 512);
  if (compression_ == 1) {
    ZSTD_inBuffer in{stored.data(), stored.size(), 0};
    ZSTD_outBuffer out{cluster.data(), cluster.size(), 0};
    ZSTD_DCtx* context = ZSTD_createDCtx();
    std::size_t left = 1;
    while (left != 0 && ZSTD_isError(left) == 0 && out.pos < out.size && in.pos < in.size) {
      left = ZSTD_decompressStream(context, &out, &in);
    }
    ZSTD_freeDCtx(context);
    return out.pos == out.size ? Result<void>() : fail(EIO, "zstd data is damaged");
  }
  z_stream stream{};
  if (inflateInit2(&stream, -15) != Z_OK) {
    return fail(ENOMEM, "no memory for zlib");
  }
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(stored.data()));
  stream.avail_in = static_cast<uInt>(stored.size());
  stream.next_out = reinterpret_cast<Bytef*>(cluster.data());
  stream.avail_out = static_cast<uInt>(cluster.size());
  const int status = ::inflate(&stream, Z_FINISH);
  const bool whole = stream.avail_out == 0 && (status == Z_STREAM_END || status == Z_BUF_ERROR);
  inflateEnd(&stream);
  return whole ? Result<void>() : fail(EIO, "deflate data is damaged");
}

Result<void> Qcow2Verifier::read_part(uint64_t offset, std::span<std::byte> part, uint64_t entry,
                                      uint64_t bitmap, const BackingReader& backing) const {
  const uint64_t within = offset & (cluster_size_ - 1);
  if ((entry & kCompressedFlag) != 0) {
    std::vector<std::byte> unit(cluster_size_);
    auto inflated = inflate(entry, unit);
    std::memcpy(part.data(), unit.data() + within, part.size());
    return inflated;
  }
  bool zero = (entry & kZeroesFlag) != 0 && version_ >= 3;
  bool data = !zero && has_place(entry);
  if (extended_) {
    const uint64_t subcluster = within / (cluster_size_ / kSubclusters);
    zero = (bitmap >> (kSubclusters + subcluster) & 1) != 0;
    data = (bitmap >> subcluster & 1) != 0;
  }
  if (data) {
    (data_ != nullptr ? *data_ : image_).read((entry & kOffsetMask) + within, part);
  } else if (!zero && backing) {
    backing(offset, part);
  } else {
    std::ranges::fill(part, std::byte{0});
  }
  return {};
}

Result<void> Qcow2Verifier::read_by(uint64_t l1_offset, uint64_t l1_entries, uint64_t offset,
                                    std::span<std::byte> out, const BackingReader& backing) const {
  const uint64_t unit = extended_ ? cluster_size_ / kSubclusters : cluster_size_;
  const uint64_t per_table = cluster_size_ / l2_entry_bytes_;
  while (!out.empty()) {
    const uint64_t index = offset >> cluster_bits_;
    const auto part = out.first(std::min<uint64_t>(unit - offset % unit, out.size()));
    const uint64_t table = index / per_table < l1_entries
                               ? field<uint64_t>(l1_offset + index / per_table * 8) & kOffsetMask
                               : 0;
    const uint64_t place = table + index % per_table * l2_entry_bytes_;
    const uint64_t entry = table == 0 ? 0 : field<uint64_t>(place);
    const uint64_t bitmap = table == 0 || !extended_ ? 0 : field<uint64_t>(place + 8);
    auto result = read_part(offset, part, entry, bitmap, backing);
    if (!result) {
      return result;
    }
    offset += part.size();
    out = out.subspan(part.size());
  }
  return {};
}

}  // namespace cairn::testing
