#include "formats/qcow2/bitmap_directory.h"

#include <algorithm>
#include <cerrno>
#include <unordered_set>

#include "base/bytes.h"

namespace cairn::qcow2 {

namespace {

std::string to_text(std::span<const std::byte> bytes) {
  std::string text(bytes.size(), '\0');
  std::ranges::transform(bytes, text.begin(), [](std::byte b) { return static_cast<char>(b); });
  return text;
}

Result<void> check_entry(const BitmapEntry& entry, uint64_t disk_size, uint64_t cluster_size) {
  bool sound =
      entry.type == BitmapEntry::kTypeDirty && (entry.flags & ~BitmapEntry::kKnownFlags) == 0 &&
      entry.granularity_bits >= kMinBitmapGranularityBits &&
      entry.granularity_bits <= kMaxBitmapGranularityBits && !entry.name.empty() &&
      entry.table_entries != 0 && entry.table_offset != 0 && entry.table_offset < kMaxHostOffset &&
      is_aligned(entry.table_offset, cluster_size) &&
      entry.table_entries <= kMaxBitmapBytes / cluster_size;
  // A bitmap that is in use may be for another size: a resize was interrupted.
  if (sound && !entry.in_use()) {
    sound = entry.table_entries >=
            bitmap_table_entries(disk_size, entry.granularity_bits, cluster_size);
  }
  if (!sound) {
    return fail(EINVAL, "Bitmap '{}' doesn't satisfy the constraints", entry.name);
  }
  return {};
}

}  // namespace

Result<std::optional<BitmapsExtension>> parse_bitmaps_extension(const Header& header) {
  const HeaderExtension* found = header.extension(ExtensionType::kBitmaps);
  if (found == nullptr) {
    return std::nullopt;
  }
  if (found->data.size() != kBitmapsExtensionLength) {
    return fail(EINVAL, "bitmaps_ext: Invalid extension length");
  }
  const std::byte* const raw = found->data.data();
  const BitmapsExtension extension{.bitmaps = load_be<uint32_t>(raw),
                                   .directory_size = load_be<uint64_t>(raw + 8),
                                   .directory_offset = load_be<uint64_t>(raw + 16)};
  if (load_be<uint32_t>(raw + 4) != 0) {
    return fail(EINVAL, "bitmaps_ext: Reserved field is not zero");
  }
  if (extension.bitmaps > kMaxBitmaps) {
    return fail(EINVAL, "bitmaps_ext: image has {} bitmaps, exceeding the supported maximum of {}",
                extension.bitmaps, kMaxBitmaps);
  }
  if (extension.bitmaps == 0) {
    return fail(EINVAL, "bitmaps_ext: found bitmaps extension with zero bitmaps");
  }
  if (extension.directory_offset == 0 || extension.directory_offset >= kMaxHostOffset ||
      !is_aligned(extension.directory_offset, header.geometry().cluster_size())) {
    return fail(EINVAL, "bitmaps_ext: invalid bitmap directory offset");
  }
  if (extension.directory_size > kMaxBitmapDirectoryBytes) {
    return fail(EINVAL,
                "bitmaps_ext: bitmap directory size ({}) exceeds the maximum supported size ({})",
                extension.directory_size, kMaxBitmapDirectoryBytes);
  }
  return extension;
}

std::vector<std::byte> serialize_bitmaps_extension(const BitmapsExtension& extension) {
  std::vector<std::byte> bytes(kBitmapsExtensionLength);
  store_be(bytes.data(), extension.bitmaps);
  store_be(bytes.data() + 8, extension.directory_size);
  store_be(bytes.data() + 16, extension.directory_offset);
  return bytes;
}

uint64_t BitmapEntry::stored_length() const {
  return align_up(kBitmapEntryFixed + extra.size() + name.size(), 8);
}

uint64_t bitmap_table_entries(uint64_t disk_size, uint32_t granularity_bits,
                              uint64_t cluster_size) {
  const uint64_t bits = div_round_up(disk_size, uint64_t{1} << granularity_bits);
  return std::max<uint64_t>(1, div_round_up(div_round_up(bits, 8), cluster_size));
}

Result<std::vector<BitmapEntry>> parse_bitmap_directory(std::span<const std::byte> bytes,
                                                        uint32_t bitmaps, uint64_t disk_size,
                                                        uint64_t cluster_size) {
  std::vector<BitmapEntry> entries;
  std::unordered_set<std::string> names;
  uint64_t at = 0;
  while (at < bytes.size()) {
    if (bytes.size() - at < kBitmapEntryFixed || entries.size() == bitmaps) {
      return fail(EINVAL, "Broken bitmap directory");
    }
    const std::byte* const raw = bytes.data() + at;
    const uint64_t name_length = load_be<uint16_t>(raw + 18);
    const uint64_t extra_length = load_be<uint32_t>(raw + 20);
    const uint64_t length = align_up(kBitmapEntryFixed + extra_length + name_length, 8);
    if (length > bytes.size() - at || name_length > kMaxBitmapName) {
      return fail(EINVAL, "Broken bitmap directory");
    }
    const auto extra = bytes.subspan(at + kBitmapEntryFixed, extra_length);
    BitmapEntry entry{
        .table_offset = load_be<uint64_t>(raw),
        .table_entries = load_be<uint32_t>(raw + 8),
        .flags = load_be<uint32_t>(raw + 12),
        .type = load_be<uint8_t>(raw + 16),
        .granularity_bits = load_be<uint8_t>(raw + 17),
        .extra = {extra.begin(), extra.end()},
        .name = to_text(bytes.subspan(at + kBitmapEntryFixed + extra_length, name_length))};
    if (auto sound = check_entry(entry, disk_size, cluster_size); !sound) {
      return pass(sound);
    }
    if (!names.insert(entry.name).second) {
      return fail(EINVAL, "Broken bitmap directory: two bitmaps are called '{}'", entry.name);
    }
    entries.push_back(std::move(entry));
    at += length;
  }
  if (entries.size() != bitmaps) {
    return fail(EINVAL, "Broken bitmap directory: it has {} bitmaps, not {}", entries.size(),
                bitmaps);
  }
  return entries;
}

std::vector<std::byte> serialize_bitmap_directory(std::span<const BitmapEntry> entries) {
  std::vector<std::byte> bytes;
  for (const BitmapEntry& entry : entries) {
    const std::size_t at = bytes.size();
    bytes.resize(at + entry.stored_length());
    std::byte* const raw = bytes.data() + at;
    store_be(raw, entry.table_offset);
    store_be(raw + 8, entry.table_entries);
    store_be(raw + 12, entry.flags);
    store_be(raw + 16, entry.type);
    store_be(raw + 17, entry.granularity_bits);
    store_be(raw + 18, static_cast<uint16_t>(entry.name.size()));
    store_be(raw + 20, static_cast<uint32_t>(entry.extra.size()));
    std::byte* const tail = std::ranges::copy(entry.extra, raw + kBitmapEntryFixed).out;
    std::ranges::transform(entry.name, tail, [](char c) { return static_cast<std::byte>(c); });
  }
  return bytes;
}

}  // namespace cairn::qcow2
