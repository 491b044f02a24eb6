// The bitmap directory of an image (sections "Bitmaps extension", "Bitmap directory" and "Bitmap
// table"): parsing with full validation, and writing. Pure; any bytes are allowed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "formats/qcow2/header.h"

namespace cairn::qcow2 {

inline constexpr uint32_t kMaxBitmaps = 65535;
inline constexpr uint64_t kBitmapsExtensionLength = 24;
inline constexpr uint64_t kBitmapEntryFixed = 24;  // bytes before extra data and name
inline constexpr uint32_t kMaxBitmapName = 1023;
inline constexpr uint64_t kMaxBitmapBytes = 512u << 20;  // of one bitmap, a limit readers share
inline constexpr uint32_t kMinBitmapGranularityBits = 9;
inline constexpr uint32_t kMaxBitmapGranularityBits = 31;

// Entries of a bitmap table.
inline constexpr uint64_t kBitmapTableReserved = 0xff000000000001fe;
inline constexpr uint64_t kBitmapTableAllOnes = 1;  // without a cluster: every bit is set

struct BitmapsExtension {
  uint32_t bitmaps = 0;  // at least 1
  uint64_t directory_size = 0;
  uint64_t directory_offset = 0;
};

// Nothing when the header has none. EINVAL with the field's words.
[[nodiscard]] Result<std::optional<BitmapsExtension>> parse_bitmaps_extension(const Header& header);
[[nodiscard]] std::vector<std::byte> serialize_bitmaps_extension(const BitmapsExtension& extension);

struct BitmapEntry {
  static constexpr uint32_t kInUse = 1u << 0;  // not stored in order: not to be trusted
  static constexpr uint32_t kAuto = 1u << 1;   // enabled when the image is opened
  static constexpr uint32_t kExtraCompatible = 1u << 2;
  static constexpr uint32_t kKnownFlags = kInUse | kAuto | kExtraCompatible;
  static constexpr uint8_t kTypeDirty = 1;

  uint64_t table_offset = 0;
  uint32_t table_entries = 0;
  uint32_t flags = 0;
  uint8_t type = kTypeDirty;
  uint8_t granularity_bits = 16;
  std::vector<std::byte> extra;  // kept as it was found
  std::string name;

  bool operator==(const BitmapEntry&) const = default;

  [[nodiscard]] bool in_use() const { return (flags & kInUse) != 0; }
  // Its bits are those of the disk, as far as this implementation can tell.
  [[nodiscard]] bool usable() const {
    return !in_use() && (extra.empty() || (flags & kExtraCompatible) != 0);
  }
  // Bytes of the entry in the directory, with its padding.
  [[nodiscard]] uint64_t stored_length() const;
};

// Entries of the table that a bitmap for `disk_size` bytes needs; at least 1.
[[nodiscard]] uint64_t bitmap_table_entries(uint64_t disk_size, uint32_t granularity_bits,
                                            uint64_t cluster_size);

// The entries of a directory. EINVAL when they do not lie in `bytes`, when one is not as the
// specification wants it for a disk of `disk_size` bytes, or when two have one name.
[[nodiscard]] Result<std::vector<BitmapEntry>> parse_bitmap_directory(
    std::span<const std::byte> bytes, uint32_t bitmaps, uint64_t disk_size, uint64_t cluster_size);
[[nodiscard]] std::vector<std::byte> serialize_bitmap_directory(
    std::span<const BitmapEntry> entries);

}  // namespace cairn::qcow2
