// Qcow2Verifier: header extensions, and the bitmaps that one of them leads to.
#include <algorithm>

#include "tests/support/qcow2_verifier.h"

namespace cairn::testing {
namespace {

constexpr uint32_t kBitmapsExtension = 0x23852875;
constexpr uint64_t kAutoclearBitmaps = 1;
constexpr uint64_t kAutoclearIntent = uint64_t{1} << 63;
constexpr uint64_t kIntentMagic = 0x436169726e57494d;
constexpr uint32_t kInUse = 1;
constexpr uint32_t kAuto = 2;
constexpr uint64_t kTableReserved = 0xff000000000001fe;
constexpr uint64_t kTableOffset = 0x00fffffffffffe00;

}  // namespace

void Qcow2Verifier::walk_extensions() {
  const uint64_t name = field<uint64_t>(8);
  if (field<uint32_t>(16) > 1023 || name + field<uint32_t>(16) > cluster_size_) {
    corrupt("the backing file's name does not lie in the first cluster");
  }
  // Extensions end at the name, or with the first cluster.
  const uint64_t end = name != 0 ? std::min(name, cluster_size_) : cluster_size_;
  bool bitmaps = false;
  for (uint64_t at = header_length_; at + 8 <= end;) {
    const auto type = field<uint32_t>(at);
    const uint64_t length = field<uint32_t>(at + 4);
    if (type == 0) {
      break;
    }
    if (at + 8 + length > end) {
      corrupt("header extension ", type, " at ", at, " does not fit");
      return;
    }
    // Without its bit nobody may believe what it says.
    if (type == kBitmapsExtension && version_ >= 3 && (autoclear_ & kAutoclearBitmaps) != 0) {
      bitmaps = true;
      walk_bitmaps(at + 8, length);
    }
    at += 8 + align_up(length, 8);
  }
  if ((autoclear_ & kAutoclearBitmaps) != 0 && !bitmaps) {
    corrupt("the header vouches for bitmaps and has none");
  }
}

void Qcow2Verifier::walk_bitmaps(uint64_t extension, uint64_t length) {
  const auto bitmaps = field<uint32_t>(extension);
  const auto size = field<uint64_t>(extension + 8);
  const auto directory = field<uint64_t>(extension + 16);
  if (length != 24 || bitmaps == 0 || directory % cluster_size_ != 0 || size > uint64_t{64} << 20) {
    corrupt("the bitmaps extension makes no sense");
    return;
  }
  refer(directory, size, Use::kBitmapDirectory, "bitmaps extension");
  walk_intent(directory, size);
  uint64_t at = directory;
  for (uint32_t i = 0; i < bitmaps && at + 24 <= directory + size; ++i) {
    walk_bitmap(at, fmt::format("bitmap {}", i));
    at += align_up(uint64_t{24} + field<uint32_t>(at + 20) + field<uint16_t>(at + 18), 8);
  }
  if (at != directory + size || bitmap_list_.size() != bitmaps) {
    corrupt("the bitmap directory has another size than its entries");
  }
}

// The map lies at the end of the directory's last cluster: bits, then a sector that describes them.
void Qcow2Verifier::walk_intent(uint64_t directory, uint64_t size) {
  constexpr uint64_t kSector = 512;
  const uint64_t head = directory + align_up(size, cluster_size_) - kSector;
  if ((autoclear_ & kAutoclearIntent) == 0 || field<uint64_t>(head) != kIntentMagic ||
      field<uint64_t>(head + 24) != directory) {
    return;
  }
  const uint64_t length = field<uint32_t>(head + 16) * kSector;
  intent_group_bits_ = field<uint32_t>(head + 12);
  if (length == 0 || length > head || head - length < directory + size || intent_group_bits_ > 62) {
    corrupt("the map of what may have changed makes no sense");
    return;
  }
  intent_bits_ = image_.read(head - length, length);
  intent_vouched_.resize(field<uint32_t>(head + 20));
  for (std::size_t i = 0; i < intent_vouched_.size(); ++i) {
    intent_vouched_[i] = (field<uint8_t>(head + 64 + i / 8) >> (i % 8) & 1) != 0;
  }
}

void Qcow2Verifier::add_intent(Bitmap& bitmap) const {
  const uint64_t last = intent_bits_.size() * 8 - 1;
  for (uint64_t bit = 0; bit < bitmap.bits.size(); ++bit) {
    const uint64_t begin = bit * bitmap.granularity;
    const uint64_t end = std::min(begin + bitmap.granularity, size_) - 1;
    for (uint64_t group = std::min(begin >> intent_group_bits_, last);
         group <= std::min(end >> intent_group_bits_, last); ++group) {
      const auto byte = std::to_integer<unsigned>(intent_bits_[group / 8]);
      bitmap.bits[bit] = bitmap.bits[bit] || (byte >> (group % 8) & 1) != 0;
    }
  }
}

void Qcow2Verifier::walk_bitmap(uint64_t entry, const std::string& where) {
  const auto table = field<uint64_t>(entry);
  const auto table_entries = field<uint32_t>(entry + 8);
  const auto flags = field<uint32_t>(entry + 12);
  const auto type = field<uint8_t>(entry + 16);
  const auto granularity_bits = field<uint8_t>(entry + 17);
  const std::vector<std::byte> name =
      image_.read(entry + 24 + field<uint32_t>(entry + 20), field<uint16_t>(entry + 18));
  Bitmap bitmap{.name = {reinterpret_cast<const char*>(name.data()), name.size()},
                .granularity = uint64_t{1} << (granularity_bits & 63),
                .in_use = (flags & kInUse) != 0,
                .records = (flags & kAuto) != 0};
  if (type != 1 || granularity_bits > 31 || (flags & ~(kInUse | kAuto)) != 0 ||
      table % cluster_size_ != 0 || name.empty()) {
    corrupt(where, ": the directory entry makes no sense");
    return;
  }
  const std::size_t index = bitmap_list_.size();
  bitmap.vouched = bitmap.in_use && index < intent_vouched_.size() && intent_vouched_[index];
  refer(table, uint64_t{8} * table_entries, Use::kBitmapTable, where);
  walk_bitmap_table(table, table_entries, bitmap, where);
  if (bitmap.vouched) {
    add_intent(bitmap);
  }
  bitmap_list_.push_back(std::move(bitmap));
}

void Qcow2Verifier::walk_bitmap_table(uint64_t table, uint64_t entries, Bitmap& bitmap,
                                      const std::string& where) {
  const uint64_t per_cluster = cluster_size_ * 8;
  const uint64_t granules = div_round_up(size_, bitmap.granularity);
  // One in use may have the table for another size of the disk.
  if (!bitmap.in_use || bitmap.vouched) {
    bitmap.bits.resize(granules);
  }
  if (!bitmap.in_use) {
    if (entries != std::max<uint64_t>(div_round_up(granules, per_cluster), 1)) {
      corrupt(where, ": the table has ", entries, " entries for ", granules, " bits");
      return;
    }
  }
  for (uint64_t i = 0; i < entries; ++i) {
    const auto value = field<uint64_t>(table + i * 8);
    const uint64_t place = value & kTableOffset;
    if ((value & kTableReserved) != 0 || place % cluster_size_ != 0 ||
        (place != 0 && (value & 1) != 0)) {
      corrupt(where, ": table entry ", i, " is ", value);
      return;
    }
    std::vector<std::byte> raw(bitmap.bits.empty() ? 0 : cluster_size_,
                               std::byte{value == 1 ? uint8_t{255} : uint8_t{0}});
    if (place != 0) {
      refer(place, cluster_size_, Use::kBitmapData, where);
      image_.read(place, raw);
    }
    const uint64_t first = i * per_cluster;
    const uint64_t end = std::min<uint64_t>(first + raw.size() * 8, bitmap.bits.size());
    for (uint64_t bit = first; bit < end; ++bit) {
      const uint64_t within = bit - first;
      bitmap.bits[bit] = (std::to_integer<unsigned>(raw[within / 8]) >> (within % 8) & 1) != 0;
    }
  }
}

}  // namespace cairn::testing
