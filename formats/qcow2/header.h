// The header of a qcow2 image in memory: parsing with full validation, and writing.
//
// A Header that parse_header() returned obeys the limits of layout.h: tables are aligned and of
// bounded size, the L1 table covers the disk, strings lie inside the first cluster. Features that
// are known by name but not built are not refused here, so that `info` can describe any image; see
// who opens it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "formats/qcow2/layout.h"

namespace cairn::qcow2 {

struct HeaderExtension {
  uint32_t type = 0;
  std::vector<std::byte> data;
};

// Bytes of the file.
struct HostRange {
  uint64_t offset = 0;
  uint64_t length = 0;
};

// An entry of the feature name table.
struct FeatureName {
  enum class Kind : uint8_t { kIncompatible = 0, kCompatible = 1, kAutoclear = 2 };
  Kind kind = Kind::kIncompatible;
  uint8_t bit = 0;
  std::string name;
};

struct Header {
  uint32_t version = 3;
  uint32_t cluster_bits = 16;
  uint64_t size = 0;  // of the virtual disk, in bytes
  CryptMethod crypt_method = CryptMethod::kNone;
  uint32_t l1_size = 0;  // in entries
  uint64_t l1_table_offset = 0;
  uint64_t refcount_table_offset = 0;
  uint32_t refcount_table_clusters = 0;
  uint32_t snapshot_count = 0;
  uint64_t snapshots_offset = 0;
  uint64_t incompatible_features = 0;
  uint64_t compatible_features = 0;
  uint64_t autoclear_features = 0;
  uint32_t refcount_order = kV2RefcountOrder;
  CompressionType compression = CompressionType::kDeflate;
  // Header bytes between the fields known here and header_length; kept when it is rewritten.
  std::vector<std::byte> unknown_fields;
  // Whether the compression_type field and its padding are (to be) part of the header.
  bool has_compression_field = true;

  std::string backing_file;  // empty: none
  // Where the name was found in the first cluster; serialize_header() places it anew.
  uint64_t backing_file_offset = 0;
  // All extensions but the end marker, in the order of the image.
  std::vector<HeaderExtension> extensions;

  [[nodiscard]] Geometry geometry() const;
  [[nodiscard]] bool has(uint64_t incompatible_feature) const {
    return (incompatible_features & incompatible_feature) != 0;
  }
  [[nodiscard]] bool lazy_refcounts() const {
    return (compatible_features & kCompatibleLazyRefcounts) != 0;
  }
  // "0.10" or "1.1", as `compat` names versions.
  [[nodiscard]] std::string_view compat() const { return version == 2 ? "0.10" : "1.1"; }

  // The first extension of a type; null when there is none.
  [[nodiscard]] const HeaderExtension* extension(ExtensionType type) const;
  // String extensions; empty when absent.
  [[nodiscard]] std::string backing_format() const;
  [[nodiscard]] std::string data_file() const;
  // Adds, replaces or, when `value` is empty, removes a string extension.
  void set_string_extension(ExtensionType type, std::string_view value);
  [[nodiscard]] std::vector<FeatureName> feature_names() const;
  // Where the bitmaps extension says that the bitmap directory lies (section "Bitmaps extension"),
  // if it lies within the limits of the format.
  [[nodiscard]] std::optional<HostRange> bitmap_directory() const;
};

// Decides from an image's first bytes (kHeaderLengthKnown suffice) how many bytes parse_header()
// wants to see: the cluster size. Fails as parse_header() would.
[[nodiscard]] Result<uint64_t> header_area_length(std::span<const std::byte> head);

// What the image is opened for, and so what of its refcount table is borne with: a check takes an
// image without one; a repair takes an impossible one for none and makes a new one.
enum class OpenedFor : uint8_t { kUse, kCheck, kRepair };

// Parses the first cluster of an image (section "Header"); what the file is too short for is given
// as zeroes. EINVAL, ENOTSUP or EFBIG with the field's messages. Unknown incompatible features are
// refused by name.
[[nodiscard]] Result<Header> parse_header(std::span<const std::byte> cluster,
                                          OpenedFor purpose = OpenedFor::kUse);

// The header proper (section "Header" and the additional fields) without extensions; the fields
// that say where the backing file's name lies are zero.
[[nodiscard]] std::vector<std::byte> serialize_fields(const Header& header);

// The bytes of the header, its extensions and the backing file name, without trailing zeroes up to
// the cluster's end. EINVAL when they do not fit into a cluster. The name goes to `name_offset`, or
// right behind the extensions when they end beyond it.
[[nodiscard]] Result<std::vector<std::byte>> serialize_header(const Header& header,
                                                              uint64_t name_offset = 0);
// Where the extensions end, in bytes.
[[nodiscard]] uint64_t extensions_end(const Header& header);

// The extension that names the features defined by the specification.
[[nodiscard]] HeaderExtension feature_name_extension();

// "Unsupported qcow2 feature(s): …" for these incompatible bits, named from `names` where they say.
[[nodiscard]] std::string unsupported_features_message(uint64_t bits,
                                                       std::span<const FeatureName> names);

}  // namespace cairn::qcow2
