// Builder and verifier against each other and against qemu-img: two readings of one specification.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <tuple>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "tests/support/pattern.h"
#include "tests/support/qcow2_builder.h"
#include "tests/support/qcow2_verifier.h"

namespace cairn::testing {
namespace {

constexpr uint64_t kClusters = 40;

// The content of guest cluster `index`: half a pattern, so that it can be compressed.
std::vector<std::byte> content(const Qcow2Shape& shape, uint64_t index) {
  std::vector<std::byte> data(shape.cluster_size());
  fill_pattern(index + 1, index * data.size(), std::span(data).first(data.size() / 2));
  return data;
}

// Some clusters of every kind; returns the guest content beside the image.
std::pair<SparseBytes, std::vector<std::byte>> build(const Qcow2Shape& shape) {
  Qcow2Builder builder(shape);
  std::vector<std::byte> guest(shape.size);
  for (uint64_t index = 0; index < kClusters; ++index) {
    const auto cluster = content(shape, index);
    const uint64_t offset = index * shape.cluster_size();
    const uint64_t kind = index % 5;
    if (kind == 0) {
      builder.data(offset, cluster);
    } else if (kind == 1 && shape.version >= 3) {
      builder.zero(offset, index % 2 == 0);
    } else if (kind != 2 || !builder.compressed(offset, cluster)) {
      continue;
    }
    if (kind != 1) {
      std::ranges::copy(cluster, guest.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    builder.leave_hole(index % 7 == 0 ? 1 : 0);
  }
  return {builder.finish(), guest};
}

class Qcow2ImageTest
    : public ::testing::TestWithParam<std::tuple<uint32_t, uint32_t, uint32_t, bool>> {
 protected:
  Qcow2Shape shape() const {
    const auto [version, bits, order, zstd] = GetParam();
    return {.version = version,
            .cluster_bits = bits,
            .refcount_order = order,
            .size = kClusters << bits,
            .zstd = zstd};
  }
};

TEST_P(Qcow2ImageTest, TheVerifierFindsNothingWrongAndReadsTheContent) {
  auto [image, guest] = build(shape());
  Qcow2Verifier verifier(image);
  const auto report = verifier.verify();
  EXPECT_EQ(report.corruptions, std::vector<std::string>{});
  EXPECT_EQ(report.leaks, 0U);
  std::vector<std::byte> read(guest.size());
  ASSERT_TRUE(verifier.read(0, read, {}).has_value());
  EXPECT_TRUE(read == guest);
}

TEST_P(Qcow2ImageTest, QemuImgAgrees) {
  if (std::system("command -v qemu-img >/dev/null") != 0) {
    GTEST_SKIP() << "qemu-img is not installed";
  }
  auto [image, guest] = build(shape());
  const auto [version, bits, order, zstd] = GetParam();
  const std::string path =
      fmt::format("{}image-{}-{}-{}-{}", ::testing::TempDir(), version, bits, order, zstd);
  ASSERT_TRUE(image.save(path).has_value());
  EXPECT_EQ(std::system(fmt::format("qemu-img check -q {}", path).c_str()), 0);
  EXPECT_EQ(std::system(fmt::format("qemu-img convert -O raw {0} {0}.raw && rm {0}", path).c_str()),
            0);
  auto raw = SparseBytes::load(path + ".raw");
  ASSERT_TRUE(raw.has_value());
  EXPECT_TRUE(raw->read(0, guest.size()) == guest);
  std::remove((path + ".raw").c_str());
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, Qcow2ImageTest,
    ::testing::Values(std::tuple(2U, 16U, 4U, false), std::tuple(2U, 9U, 4U, false),
                      std::tuple(3U, 9U, 0U, false), std::tuple(3U, 9U, 6U, false),
                      std::tuple(3U, 10U, 1U, true), std::tuple(3U, 12U, 2U, false),
                      std::tuple(3U, 16U, 3U, true), std::tuple(3U, 16U, 5U, false)));

class Qcow2VerifierTest : public ::testing::Test {
 protected:
  Qcow2Shape shape_{.cluster_bits = 12, .size = kClusters << 12};
  SparseBytes image_ = build(shape_).first;

  uint64_t field(uint64_t offset) const { return load_be<uint64_t>(image_.read(offset, 8).data()); }
  void set_field(uint64_t offset, uint64_t value) {
    std::byte raw[8];
    store_be(raw, value);
    image_.write(offset, raw);
  }
  Qcow2Verifier::Report verify() const { return Qcow2Verifier(image_).verify(); }
  uint64_t l2() const { return field(field(40)) & 0x00fffffffffffe00U; }
};

TEST_F(Qcow2VerifierTest, FindsALeak) {
  set_field(l2(), 0);
  const auto report = verify();
  EXPECT_EQ(report.corruptions, std::vector<std::string>{});
  EXPECT_EQ(report.leaks, 1U);
}

TEST_F(Qcow2VerifierTest, FindsADoubleAllocation) {
  set_field(l2() + 5 * 8, field(l2()));
  EXPECT_FALSE(verify().corruptions.empty());
}

TEST_F(Qcow2VerifierTest, FindsDataOverATable) {
  set_field(l2() + 3 * 8, field(40) | uint64_t{1} << 63);
  EXPECT_FALSE(verify().corruptions.empty());
}

TEST_F(Qcow2VerifierTest, FindsAMissingRefcount) {
  const uint64_t block = field(field(48));
  set_field(block, 0);
  EXPECT_FALSE(verify().corruptions.empty());
}

TEST_F(Qcow2VerifierTest, FindsAWrongCopiedFlag) {
  set_field(l2(), field(l2()) & ~(uint64_t{1} << 63));
  EXPECT_EQ(verify().corruptions.size(), 1U);
}

TEST_F(Qcow2VerifierTest, FindsATableBeyondTheEnd) {
  set_field(field(40), (image_.size() + 4096) | uint64_t{1} << 63);
  EXPECT_FALSE(verify().corruptions.empty());
}

TEST_F(Qcow2VerifierTest, AcceptsSnapshots) {
  Qcow2Builder builder(shape_);
  builder.data(0, content(shape_, 0));
  builder.data(4096, content(shape_, 1));
  builder.snapshot("1", "first");
  builder.data(0, content(shape_, 2));
  image_ = builder.finish();
  const auto report = verify();
  EXPECT_EQ(report.corruptions, std::vector<std::string>{});
  EXPECT_EQ(report.leaks, 0U);
}

}  // namespace
}  // namespace cairn::testing
