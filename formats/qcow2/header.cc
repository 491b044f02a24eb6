#include "formats/qcow2/header.h"

#include <algorithm>
#include <array>
#include <climits>
#include <cstring>

#include "base/bytes.h"

namespace cairn::qcow2 {

namespace {

struct KnownFeature {
  FeatureName::Kind kind;
  uint8_t bit;
  std::string_view name;
};

constexpr std::array<KnownFeature, 8> kKnownFeatures = {{
    {FeatureName::Kind::kIncompatible, 0, "dirty bit"},
    {FeatureName::Kind::kIncompatible, 1, "corrupt bit"},
    {FeatureName::Kind::kIncompatible, 2, "external data file"},
    {FeatureName::Kind::kIncompatible, 3, "compression type"},
    {FeatureName::Kind::kIncompatible, 4, "extended L2 entries"},
    {FeatureName::Kind::kCompatible, 0, "lazy refcounts"},
    {FeatureName::Kind::kAutoclear, 0, "bitmaps"},
    {FeatureName::Kind::kAutoclear, 1, "raw external data"},
}};

// Longest name of a backing format that readers accept, exclusive.
constexpr uint32_t kBackingFormatLimit = 16;

template <typename T>
T field(std::span<const std::byte> bytes, uint32_t offset) {
  return load_be<T>(bytes.data() + offset);
}

template <typename T>
void put(std::vector<std::byte>& bytes, uint32_t offset, T value) {
  store_be<T>(bytes.data() + offset, value);
}

std::string to_text(std::span<const std::byte> bytes) {
  std::string text(bytes.size(), '\0');
  std::transform(bytes.begin(), bytes.end(), text.begin(),
                 [](std::byte b) { return static_cast<char>(b); });
  return text;
}

std::vector<std::byte> to_bytes(std::string_view text) {
  std::vector<std::byte> bytes(text.size());
  std::transform(text.begin(), text.end(), bytes.begin(),
                 [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

// A table named by the header: its size within `limit` and its place aligned and addressable.
Result<void> check_table(std::string_view name, uint64_t offset, uint64_t entries,
                         uint64_t entry_bytes, uint64_t limit, uint64_t cluster_size) {
  const auto bytes = checked_mul(entries, entry_bytes);
  if (!bytes || *bytes > limit) {
    return fail(EFBIG, "{} too large", name);
  }
  const auto end = checked_add(offset, *bytes);
  if (!end || *end > INT64_MAX || !is_aligned(offset, cluster_size)) {
    return fail(EINVAL, "{} offset invalid", name);
  }
  return {};
}

// The fields that both versions have, crypt_method excepted.
Header parse_fixed_fields(std::span<const std::byte> cluster) {
  Header header;
  header.version = field<uint32_t>(cluster, 4);
  header.backing_file_offset = field<uint64_t>(cluster, 8);
  header.cluster_bits = field<uint32_t>(cluster, 20);
  header.size = field<uint64_t>(cluster, header_offset::kSize);
  header.l1_size = field<uint32_t>(cluster, header_offset::kL1Size);
  header.l1_table_offset = field<uint64_t>(cluster, header_offset::kL1Size + 4);
  header.refcount_table_offset = field<uint64_t>(cluster, header_offset::kRefcountTable);
  header.refcount_table_clusters = field<uint32_t>(cluster, header_offset::kRefcountTable + 8);
  header.snapshot_count = field<uint32_t>(cluster, header_offset::kSnapshots);
  header.snapshots_offset = field<uint64_t>(cluster, header_offset::kSnapshots + 4);
  header.has_compression_field = false;
  return header;
}

Result<void> parse_version_3(std::span<const std::byte> cluster, Header& header,
                             uint32_t& header_length) {
  header.incompatible_features = field<uint64_t>(cluster, header_offset::kIncompatible);
  header.compatible_features = field<uint64_t>(cluster, header_offset::kCompatible);
  header.autoclear_features = field<uint64_t>(cluster, header_offset::kAutoclear);
  header.refcount_order = field<uint32_t>(cluster, 96);
  header_length = field<uint32_t>(cluster, 100);
  if (header_length < kHeaderLengthV3) {
    return fail(EINVAL, "qcow2 header too short");
  }
  if (header_length > cluster.size()) {
    return fail(EINVAL, "qcow2 header exceeds cluster size");
  }
  header.has_compression_field = header_length > kHeaderLengthV3;
  if (header_length > kHeaderLengthKnown) {
    const auto rest = cluster.subspan(kHeaderLengthKnown, header_length - kHeaderLengthKnown);
    header.unknown_fields.assign(rest.begin(), rest.end());
  }
  return {};
}

Result<void> parse_compression(std::span<const std::byte> cluster, Header& header) {
  const uint8_t type = header.has_compression_field ? field<uint8_t>(cluster, 104) : 0;
  const bool bit = header.has(kIncompatibleCompression);
  if (type == 0 && bit) {
    return fail(EINVAL, "qcow2: Compression type incompatible feature bit must not be set");
  }
  if (type != 0 && !bit) {
    return fail(EINVAL, "qcow2: Compression type incompatible feature bit must be set");
  }
  if (type > static_cast<uint8_t>(CompressionType::kZstd)) {
    return fail(ENOTSUP, "qcow2: unknown compression type: {}", type);
  }
  header.compression = static_cast<CompressionType>(type);
  return {};
}

// Section "Header extensions": from `begin` to `end` in the first cluster.
Result<void> parse_extensions(std::span<const std::byte> cluster, uint64_t begin, uint64_t end,
                              Header& header) {
  uint64_t at = begin;
  while (at + 8 <= end) {
    const auto type = field<uint32_t>(cluster, static_cast<uint32_t>(at));
    const auto length = field<uint32_t>(cluster, static_cast<uint32_t>(at + 4));
    at += 8;
    if (type == static_cast<uint32_t>(ExtensionType::kEnd)) {
      return {};
    }
    if (length > end - at) {
      return fail(EINVAL, "Header extension too large");
    }
    if (type == static_cast<uint32_t>(ExtensionType::kBackingFormat) &&
        length >= kBackingFormatLimit) {
      return fail(EINVAL, "ERROR: ext_backing_format: len={} too large (>={})", length,
                  kBackingFormatLimit);
    }
    const auto data = cluster.subspan(at, length);
    header.extensions.push_back({type, {data.begin(), data.end()}});
    at += align_up(length, 8);
  }
  return {};
}

Result<void> parse_backing_name(std::span<const std::byte> cluster, Header& header) {
  if (header.backing_file_offset == 0) {
    return {};
  }
  const auto length = field<uint32_t>(cluster, 16);
  const uint64_t room = cluster.size() - header.backing_file_offset;
  if (length > std::min<uint64_t>(kMaxBackingNameLength, room)) {
    return fail(EINVAL, "Backing file name too long");
  }
  header.backing_file = to_text(cluster.subspan(header.backing_file_offset, length));
  // Some writers count a terminating zero; no name contains one.
  header.backing_file.resize(std::strlen(header.backing_file.c_str()));
  return {};
}

Result<void> check_refcount_table(Header& header, OpenedFor purpose) {
  if (header.refcount_table_clusters == 0 && purpose == OpenedFor::kUse) {
    return fail(EINVAL, "Image does not contain a reference count table");
  }
  const uint64_t cluster_size = header.geometry().cluster_size();
  auto sane = check_table("Reference count table", header.refcount_table_offset,
                          header.refcount_table_clusters, cluster_size, kMaxRefcountTableBytes,
                          cluster_size);
  if (!sane && purpose == OpenedFor::kRepair) {
    header.refcount_table_offset = 0;
    header.refcount_table_clusters = 0;
    return {};
  }
  return sane;
}

Result<void> check_tables(Header& header, OpenedFor purpose) {
  const Geometry geometry = header.geometry();
  const uint64_t cluster_size = geometry.cluster_size();
  if (auto r = check_refcount_table(header, purpose); !r) {
    return r;
  }
  // An entry of the snapshot table has at least 40 bytes; the number is what limits the table.
  if (auto r = check_table("Snapshot table", header.snapshots_offset, header.snapshot_count, 40,
                           kMaxSnapshots * 40, cluster_size);
      !r) {
    return r;
  }
  if (auto r = check_table("Active L1 table", header.l1_table_offset, header.l1_size, kL1EntryBytes,
                           kMaxL1Bytes, cluster_size);
      !r) {
    return r;
  }
  const uint64_t needed = geometry.l1_entries_for(header.size);
  if (needed > INT_MAX || header.size > INT64_MAX) {
    return fail(EFBIG, "Image is too big");
  }
  if (header.l1_size < needed) {
    return fail(EINVAL, "L1 table is too small");
  }
  return {};
}

}  // namespace

Geometry Header::geometry() const {
  return {.cluster_bits = cluster_bits,
          .refcount_order = refcount_order,
          .l2_entry_bytes = has(kIncompatibleExtendedL2) ? kL2ExtendedEntryBytes : kL2EntryBytes,
          .external_data = has(kIncompatibleDataFile)};
}

const HeaderExtension* Header::extension(ExtensionType type) const {
  const auto found = std::find_if(
      extensions.begin(), extensions.end(),
      [type](const HeaderExtension& e) { return e.type == static_cast<uint32_t>(type); });
  return found == extensions.end() ? nullptr : &*found;
}

std::string Header::backing_format() const {
  const HeaderExtension* found = extension(ExtensionType::kBackingFormat);
  return found == nullptr ? std::string() : to_text(found->data);
}

std::string Header::data_file() const {
  const HeaderExtension* found = extension(ExtensionType::kDataFile);
  return found == nullptr ? std::string() : to_text(found->data);
}

void Header::set_string_extension(ExtensionType type, std::string_view value) {
  const auto found = std::find_if(
      extensions.begin(), extensions.end(),
      [type](const HeaderExtension& e) { return e.type == static_cast<uint32_t>(type); });
  if (value.empty()) {
    if (found != extensions.end()) {
      extensions.erase(found);
    }
  } else if (found != extensions.end()) {
    found->data = to_bytes(value);
  } else {
    // In front of all others, where other writers put these strings.
    extensions.insert(extensions.begin(), {static_cast<uint32_t>(type), to_bytes(value)});
  }
}

std::vector<FeatureName> Header::feature_names() const {
  std::vector<FeatureName> names;
  const HeaderExtension* table = extension(ExtensionType::kFeatureNames);
  if (table == nullptr) {
    return names;
  }
  const std::span<const std::byte> data(table->data);
  for (std::size_t at = 0; at + kFeatureEntryLength <= data.size(); at += kFeatureEntryLength) {
    const auto kind = static_cast<uint8_t>(data[at]);
    const auto bit = static_cast<uint8_t>(data[at + 1]);
    if (kind > static_cast<uint8_t>(FeatureName::Kind::kAutoclear) || bit > 63) {
      continue;
    }
    std::string name = to_text(data.subspan(at + 2, kFeatureNameLength));
    name.resize(std::strlen(name.c_str()));
    names.push_back({static_cast<FeatureName::Kind>(kind), bit, std::move(name)});
  }
  return names;
}

std::optional<HostRange> Header::bitmap_directory() const {
  constexpr std::size_t kBitmapsExtensionLength = 24;
  const HeaderExtension* found = extension(ExtensionType::kBitmaps);
  if (found == nullptr || found->data.size() < kBitmapsExtensionLength) {
    return std::nullopt;
  }
  const HostRange range{.offset = field<uint64_t>(found->data, 16),
                        .length = field<uint64_t>(found->data, 8)};
  if (range.length > kMaxBitmapDirectoryBytes || range.offset > kMaxHostOffset) {
    return std::nullopt;
  }
  return range;
}

Result<uint64_t> header_area_length(std::span<const std::byte> head) {
  std::array<std::byte, kHeaderLengthKnown> padded{};
  std::copy_n(head.begin(), std::min(head.size(), padded.size()), padded.begin());
  if (field<uint32_t>(padded, 0) != kMagic) {
    return fail(EINVAL, "Image is not in qcow2 format");
  }
  const auto version = field<uint32_t>(padded, 4);
  if (version != 2 && version != 3) {
    return fail(ENOTSUP, "Unsupported qcow2 version {}", version);
  }
  const auto cluster_bits = field<uint32_t>(padded, 20);
  if (cluster_bits < kMinClusterBits || cluster_bits > kMaxClusterBits) {
    return fail(EINVAL, "Unsupported cluster size: 2^{}", cluster_bits);
  }
  return uint64_t{1} << cluster_bits;
}

Result<Header> parse_header(std::span<const std::byte> first, OpenedFor purpose) {
  const auto area = header_area_length(first);
  if (!area) {
    return std::unexpected(area.error());
  }
  std::vector<std::byte> padded(
      first.begin(),
      first.begin() + static_cast<std::ptrdiff_t>(std::min<uint64_t>(first.size(), *area)));
  padded.resize(*area);
  const std::span<const std::byte> cluster(padded);

  Header header = parse_fixed_fields(cluster);
  uint32_t header_length = kHeaderLengthV2;
  if (header.version == 3) {
    if (auto r = parse_version_3(cluster, header, header_length); !r) {
      return pass(r);
    }
  }
  if (header.backing_file_offset > cluster.size()) {
    return fail(EINVAL, "Invalid backing file offset");
  }
  const uint64_t extensions_end =
      header.backing_file_offset != 0 ? header.backing_file_offset : cluster.size();
  const auto extensions = parse_extensions(cluster, header_length, extensions_end, header);
  // A reader that does not know a feature may not trust the rest: the features are named first.
  if (const uint64_t unknown = header.incompatible_features & ~kIncompatibleKnown; unknown != 0) {
    return fail(ENOTSUP, "{}", unsupported_features_message(unknown, header.feature_names()));
  }
  if (auto r = parse_compression(cluster, header); !r) {
    return pass(r);
  }
  if (header.has(kIncompatibleExtendedL2) &&
      header.geometry().cluster_size() / kSubclustersPerCluster < kSectorSize) {
    return fail(EINVAL, "Unsupported subcluster size: {}",
                header.geometry().cluster_size() / kSubclustersPerCluster);
  }
  if (header.refcount_order > kMaxRefcountOrder) {
    return fail(EINVAL, "Reference count entry width too large; may not exceed 64 bits");
  }
  const auto crypt_method = field<uint32_t>(cluster, 32);
  if (crypt_method > static_cast<uint32_t>(CryptMethod::kLuks)) {
    return fail(EINVAL, "Unsupported encryption method {}", static_cast<int32_t>(crypt_method));
  }
  header.crypt_method = static_cast<CryptMethod>(crypt_method);
  if (auto r = check_tables(header, purpose); !r) {
    return pass(r);
  }
  if (!extensions) {
    return std::unexpected(extensions.error());
  }
  if (auto r = parse_backing_name(cluster, header); !r) {
    return pass(r);
  }
  return header;
}

std::vector<std::byte> serialize_fields(const Header& header) {
  uint32_t length = kHeaderLengthV2;
  if (header.version >= 3) {
    const bool long_form = header.has_compression_field || !header.unknown_fields.empty() ||
                           header.compression != CompressionType::kDeflate;
    length = (long_form ? kHeaderLengthKnown : kHeaderLengthV3) +
             static_cast<uint32_t>(header.unknown_fields.size());
  }
  std::vector<std::byte> bytes(length);
  put(bytes, 0, kMagic);
  put(bytes, 4, header.version);
  put(bytes, 20, header.cluster_bits);
  put(bytes, header_offset::kSize, header.size);
  put(bytes, 32, static_cast<uint32_t>(header.crypt_method));
  put(bytes, header_offset::kL1Size, header.l1_size);
  put(bytes, header_offset::kL1Size + 4, header.l1_table_offset);
  put(bytes, header_offset::kRefcountTable, header.refcount_table_offset);
  put(bytes, header_offset::kRefcountTable + 8, header.refcount_table_clusters);
  put(bytes, header_offset::kSnapshots, header.snapshot_count);
  put(bytes, header_offset::kSnapshots + 4, header.snapshots_offset);
  if (header.version >= 3) {
    put(bytes, header_offset::kIncompatible, header.incompatible_features);
    put(bytes, header_offset::kCompatible, header.compatible_features);
    put(bytes, header_offset::kAutoclear, header.autoclear_features);
    put(bytes, 96, header.refcount_order);
    put(bytes, 100, length);
    if (length >= kHeaderLengthKnown) {
      put(bytes, 104, static_cast<uint8_t>(header.compression));
      std::copy(header.unknown_fields.begin(), header.unknown_fields.end(),
                bytes.begin() + kHeaderLengthKnown);
    }
  }
  return bytes;
}

uint64_t extensions_end(const Header& header) {
  uint64_t end = serialize_fields(header).size() + 8;
  for (const HeaderExtension& extension : header.extensions) {
    end += 8 + align_up(extension.data.size(), 8);
  }
  return end;
}

Result<std::vector<std::byte>> serialize_header(const Header& header, uint64_t name_offset) {
  std::vector<std::byte> bytes = serialize_fields(header);
  for (const HeaderExtension& extension : header.extensions) {
    const std::size_t at = bytes.size();
    bytes.resize(at + 8 + align_up(extension.data.size(), 8));
    store_be<uint32_t>(bytes.data() + at, extension.type);
    store_be<uint32_t>(bytes.data() + at + 4, static_cast<uint32_t>(extension.data.size()));
    std::copy(extension.data.begin(), extension.data.end(), bytes.data() + at + 8);
  }
  bytes.resize(bytes.size() + 8);  // the end marker
  if (!header.backing_file.empty()) {
    bytes.resize(std::max<uint64_t>(bytes.size(), name_offset));
    put(bytes, 8, static_cast<uint64_t>(bytes.size()));
    put(bytes, 16, static_cast<uint32_t>(header.backing_file.size()));
    const auto name = to_bytes(header.backing_file);
    bytes.insert(bytes.end(), name.begin(), name.end());
  }
  if (bytes.size() > header.geometry().cluster_size() ||
      header.backing_file.size() > kMaxBackingNameLength) {
    return fail(EINVAL, "The header does not fit into a cluster of {} bytes",
                header.geometry().cluster_size());
  }
  return bytes;
}

HeaderExtension feature_name_extension() {
  HeaderExtension extension{static_cast<uint32_t>(ExtensionType::kFeatureNames), {}};
  for (const KnownFeature& feature : kKnownFeatures) {
    const std::size_t at = extension.data.size();
    extension.data.resize(at + kFeatureEntryLength);
    extension.data[at] = static_cast<std::byte>(feature.kind);
    extension.data[at + 1] = static_cast<std::byte>(feature.bit);
    std::memcpy(extension.data.data() + at + 2, feature.name.data(), feature.name.size());
  }
  return extension;
}

std::string unsupported_features_message(uint64_t bits, std::span<const FeatureName> names) {
  std::string message = "Unsupported qcow2 feature(s): ";
  std::string_view separator;
  const auto append = [&](std::string_view name) {
    message.append(separator).append(name);
    separator = ", ";
  };
  const auto take = [&](FeatureName::Kind kind, uint8_t bit, std::string_view name) {
    const uint64_t mask = uint64_t{1} << bit;
    if (kind == FeatureName::Kind::kIncompatible && (bits & mask) != 0 && !name.empty()) {
      append(name);
      bits &= ~mask;
    }
  };
  for (const FeatureName& feature : names) {
    take(feature.kind, feature.bit, feature.name);
  }
  for (const KnownFeature& feature : kKnownFeatures) {
    take(feature.kind, feature.bit, feature.name);
  }
  if (bits != 0) {
    append(fmt::format("Unknown incompatible feature: {:x}", bits));
  }
  return message;
}

}  // namespace cairn::qcow2
