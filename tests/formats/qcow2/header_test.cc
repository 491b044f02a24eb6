// Reading, checking and writing qcow2 headers.
#include "formats/qcow2/header.h"

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/bytes.h"

namespace cairn::qcow2 {
namespace {

// The first cluster of a 1 MiB image as the field's tools write it.
std::vector<std::byte> sample(const std::function<void(Header&)>& change = {}) {
  Header header;
  header.size = 1 << 20;
  header.l1_size = 1;
  header.l1_table_offset = 0x30000;
  header.refcount_table_offset = 0x10000;
  header.refcount_table_clusters = 1;
  header.extensions.push_back(feature_name_extension());
  if (change) {
    change(header);
  }
  auto bytes = serialize_header(header);
  EXPECT_TRUE(bytes);
  bytes->resize(header.geometry().cluster_size());
  return *bytes;
}

template <typename T>
std::string error_after(uint32_t offset, T value) {
  auto bytes = sample();
  store_be<T>(bytes.data() + offset, value);
  const auto header = parse_header(bytes);
  return header ? "" : header.error().message();
}

TEST(Qcow2Header, RoundTripsEveryField) {
  const auto bytes = sample([](Header& header) {
    header.incompatible_features = kIncompatibleDirty | kIncompatibleCompression;
    header.compatible_features = kCompatibleLazyRefcounts;
    header.autoclear_features = 1u << 9;
    header.compression = CompressionType::kZstd;
    header.refcount_order = 6;
    header.snapshot_count = 3;
    header.snapshots_offset = 0x50000;
    header.backing_file = "base.raw";
    header.unknown_fields.assign(16, std::byte{7});
    header.extensions.push_back({0x12345678, {std::byte{1}, std::byte{2}}});
    header.set_string_extension(ExtensionType::kBackingFormat, "raw");
  });
  const auto header = parse_header(bytes);
  ASSERT_TRUE(header) << header.error().message();
  EXPECT_EQ(header->size, 1u << 20);
  EXPECT_EQ(header->backing_file, "base.raw");
  EXPECT_EQ(header->backing_format(), "raw");
  EXPECT_EQ(header->compression, CompressionType::kZstd);
  EXPECT_EQ(header->unknown_fields.size(), 16u);
  EXPECT_EQ(header->extensions.size(), 3u);
  EXPECT_EQ(header->geometry().refcount_bits(), 64u);
  auto again = serialize_header(*header);
  ASSERT_TRUE(again);
  again->resize(bytes.size());
  EXPECT_EQ(*again, bytes);
}

TEST(Qcow2Header, Version2HasSixteenBitRefcountsAndNoFeatures) {
  auto bytes = sample([](Header& header) {
    header.version = 2;
    header.extensions.clear();
  });
  const auto header = parse_header(bytes);
  ASSERT_TRUE(header) << header.error().message();
  EXPECT_EQ(header->compat(), "0.10");
  EXPECT_EQ(header->geometry().refcount_bits(), 16u);
  EXPECT_EQ(header->incompatible_features, 0u);
}

TEST(Qcow2Header, RefusesBadFieldsWithTheFieldsMessages) {
  EXPECT_EQ(error_after<uint32_t>(0, 0x514649fa), "Image is not in qcow2 format");
  EXPECT_EQ(error_after<uint32_t>(4, 4), "Unsupported qcow2 version 4");
  EXPECT_EQ(error_after<uint32_t>(20, 8), "Unsupported cluster size: 2^8");
  EXPECT_EQ(error_after<uint32_t>(20, 0xffffffff), "Unsupported cluster size: 2^4294967295");
  EXPECT_EQ(error_after<uint32_t>(100, 96), "qcow2 header too short");
  EXPECT_EQ(error_after<uint32_t>(100, 70000), "qcow2 header exceeds cluster size");
  EXPECT_EQ(error_after<uint64_t>(8, 65537), "Invalid backing file offset");
  EXPECT_EQ(error_after<uint32_t>(96, 7),
            "Reference count entry width too large; may not exceed 64 bits");
  EXPECT_EQ(error_after<uint32_t>(32, 0xffffffff), "Unsupported encryption method -1");
  EXPECT_EQ(error_after<uint32_t>(56, 0), "Image does not contain a reference count table");
  EXPECT_EQ(error_after<uint32_t>(56, 0x1000), "Reference count table too large");
  EXPECT_EQ(error_after<uint64_t>(48, 0x10008), "Reference count table offset invalid");
  EXPECT_EQ(error_after<uint64_t>(48, 0x7fffffffffff0000), "Reference count table offset invalid");
  EXPECT_EQ(error_after<uint32_t>(60, 65537), "Snapshot table too large");
  EXPECT_EQ(error_after<uint64_t>(64, 0x10008), "Snapshot table offset invalid");
  EXPECT_EQ(error_after<uint32_t>(36, 0x400001), "Active L1 table too large");
  EXPECT_EQ(error_after<uint64_t>(40, 0xfffffffffff00000), "Active L1 table offset invalid");
  EXPECT_EQ(error_after<uint32_t>(36, 0), "L1 table is too small");
  EXPECT_EQ(error_after<uint64_t>(24, uint64_t{1} << 62), "Image is too big");
  EXPECT_EQ(error_after<uint64_t>(24, ~uint64_t{0}), "Image is too big");
  EXPECT_EQ(error_after<uint32_t>(116, 0xffffffff), "Header extension too large");
  EXPECT_EQ(error_after<uint8_t>(104, 1),
            "qcow2: Compression type incompatible feature bit must be set");
  EXPECT_EQ(error_after<uint64_t>(72, kIncompatibleCompression),
            "qcow2: Compression type incompatible feature bit must not be set");
}

TEST(Qcow2Header, NamesUnknownFeaturesFromTheImagesOwnTable) {
  auto bytes = sample([](Header& header) {
    std::vector<std::byte> entry(kFeatureEntryLength);
    entry[1] = std::byte{40};
    std::memcpy(entry.data() + 2, "time travel", 11);
    header.extensions = {{static_cast<uint32_t>(ExtensionType::kFeatureNames), entry}};
    header.incompatible_features = (uint64_t{5} << 40) | kIncompatibleDirty;
  });
  const auto header = parse_header(bytes);
  ASSERT_FALSE(header);
  EXPECT_EQ(header.error().message(),
            "Unsupported qcow2 feature(s): time travel, Unknown incompatible feature: 40000000000");
}

TEST(Qcow2Header, SurvivesAnyTruncation) {
  const auto bytes = sample([](Header& header) { header.backing_file = std::string("b"); });
  for (std::size_t length = 0; length < 700; ++length) {
    const auto header = parse_header(std::span(bytes).first(length));
    if (length < 48) {
      EXPECT_FALSE(header);
    }
  }
}

TEST(Qcow2Layout, DecodesCompressedDescriptors) {
  const Geometry geometry{.cluster_bits = 16};
  EXPECT_EQ(geometry.compressed_shift(), 54u);
  const auto range = geometry.compressed_range(kEntryCompressed | (uint64_t{3} << 54) | 0x50123);
  EXPECT_EQ(range.host_offset, 0x50123u);
  EXPECT_EQ(range.length, 4u * 512 - 0x123);
  const Geometry small{.cluster_bits = 9};
  EXPECT_EQ(small.compressed_shift(), 61u);
  EXPECT_EQ(small.compressed_range(kEntryCompressed | 0x600).length, 512u);
  const Geometry large{.cluster_bits = 21};
  EXPECT_EQ(large.compressed_range(~uint64_t{0}).host_offset, (uint64_t{1} << 49) - 1);
}

TEST(Qcow2Layout, ComputesTableSizes) {
  const Geometry geometry{.cluster_bits = 16};
  EXPECT_EQ(geometry.l2_coverage(), uint64_t{512} << 20);
  EXPECT_EQ(geometry.l1_entries_for(1), 1u);
  EXPECT_EQ(geometry.l1_entries_for(uint64_t{1} << 62), uint64_t{1} << 33);
  EXPECT_EQ(geometry.refcount_block_entries(), 32768u);
  const Geometry bits{.cluster_bits = 9, .refcount_order = 0};
  EXPECT_EQ(bits.refcount_block_entries(), 4096u);
  EXPECT_EQ(bits.refcount_max(), 1u);
}

}  // namespace
}  // namespace cairn::qcow2
