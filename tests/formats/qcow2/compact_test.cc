// Tests of moving an image together: what becomes of its file, that nothing is read differently,
// and every error and power cut on the way.
#include <cerrno>
#include <map>

#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {
namespace {

using testing::kZeroes;
using testing::Qcow2Builder;
using testing::Qcow2Shape;
using testing::SparseBytes;

// Small clusters make many tables: an L2 table has 64 entries, a refcount block 256.
constexpr uint64_t kDisk = 1000 * kTinyCluster;

// The number of the write that each cluster has, by its offset; the others are zeroes.
using Content = std::map<uint64_t, uint64_t>;

struct Gaps {
  SparseBytes file = SparseBytes();
  Content content = {};
  uint64_t cluster = kTinyCluster;
};

// An image that was full once, and of which every `kept`th cluster is left; the first half of the
// disk was discarded as a whole.
Gaps make_gaps(Qcow2Shape shape, uint64_t kept) {
  ImageWorld image;
  shape.size = kDisk / kTinyCluster * shape.cluster_size();
  const uint64_t cluster = shape.cluster_size();
  Gaps gaps{.cluster = cluster};
  image.world().add("image", Qcow2Builder(shape).finish());
  EXPECT_TRUE(image.open());
  EXPECT_TRUE(image.write(1, 0, shape.size));
  EXPECT_TRUE(image.flush());
  EXPECT_TRUE(image.discard(0, shape.size / 2 / cluster * cluster));
  for (uint64_t offset = shape.size / 2 / cluster * cluster; offset < shape.size;
       offset += cluster) {
    if (offset / cluster % kept == 0) {
      gaps.content[offset] = 1;
    } else {
      EXPECT_TRUE(image.discard(offset, cluster));
    }
  }
  EXPECT_TRUE(image.close());
  gaps.file = image.file().disk.visible();
  return gaps;
}

class CompactWorld : public ImageWorld {
 public:
  explicit CompactWorld(const Gaps& gaps, uint64_t seed = 1)
      : ImageWorld(seed), content_(gaps.content), cluster_(gaps.cluster) {
    world().add("image", gaps.file);
  }
  Result<void> compact(block::CompactOptions options = {}) {
    return run(edge().compact(std::move(options)));
  }
  void expect_content() {
    for (uint64_t offset = 0; offset < edge().length(); offset += cluster_) {
      const auto found = content_.find(offset);
      const uint64_t number = found == content_.end() ? kZeroes : found->second;
      ASSERT_TRUE(holds(number, offset, cluster_)) << "at " << offset;
    }
  }
  void expect_sound(bool leaks_allowed = false) {
    const auto report = verify();
    EXPECT_EQ(report.corruptions, std::vector<std::string>{});
    EXPECT_TRUE(leaks_allowed || report.leaks == 0) << report.leaks;
    EXPECT_EQ(world().violations(), std::vector<std::string>{});
  }
  [[nodiscard]] uint64_t file_length() { return file().disk.size(); }

 private:
  Content content_;
  uint64_t cluster_;
};

class CompactTest : public ::testing::TestWithParam<Qcow2Shape> {};

TEST_P(CompactTest, TheFileIsCutAndReadsTheSame) {
  for (const uint64_t kept : {3u, 17u, 10000u}) {
    const Gaps gaps = make_gaps(GetParam(), kept);
    CompactWorld image(gaps);
    const uint64_t before = image.file_length();
    ASSERT_TRUE(image.open());
    uint64_t last = 0;
    const auto compacted =
        image.compact({.progress = [&last](uint64_t done, uint64_t) { last = done; }});
    ASSERT_TRUE(compacted) << compacted.error().message();
    EXPECT_EQ(last, image.edge().length());
    image.expect_content();
    // It goes on being an image.
    ASSERT_TRUE(image.write(9, 0, gaps.cluster));
    EXPECT_TRUE(image.holds(9, 0, gaps.cluster));
    ASSERT_TRUE(image.discard(0, gaps.cluster));
    ASSERT_TRUE(image.close());
    image.expect_sound();
    // Data, a table for each 64 clusters, and what can not be moved.
    const uint64_t tables = kDisk / kTinyCluster / 64 + 1;
    EXPECT_LT(image.file_length(), (gaps.content.size() + tables + 64) * gaps.cluster);
    EXPECT_LT(image.file_length(), before / 2);
    ASSERT_TRUE(image.open());
    image.expect_content();
    const uint64_t after = image.file_length();
    ASSERT_TRUE(image.compact());
    EXPECT_LE(image.file_length(), after);
    image.expect_content();
  }
}

TEST_P(CompactTest, WhatIsCutCanBeFilledAgain) {
  const Gaps gaps = make_gaps(GetParam(), 5);
  CompactWorld image(gaps);
  ASSERT_TRUE(image.open());
  ASSERT_TRUE(image.compact());
  ASSERT_TRUE(image.write(7, 0, image.edge().length()));
  ASSERT_TRUE(image.flush());
  EXPECT_TRUE(image.holds(7, 0, image.edge().length()));
  ASSERT_TRUE(image.close());
  image.expect_sound();
}

TEST_P(CompactTest, AnInterruptionLeavesAnImageInOrder) {
  const Gaps gaps = make_gaps(GetParam(), 5);
  CompactWorld image(gaps);
  ASSERT_TRUE(image.open());
  io::CancelSource stop;
  const auto stopped =
      image.compact({.cancel = stop.token(), .progress = [&stop](uint64_t done, uint64_t total) {
                       if (done > total / 2) {
                         stop.cancel();
                       }
                     }});
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code(), ECANCELED);
  image.expect_content();
  ASSERT_TRUE(image.close());
  image.expect_sound();
}

std::vector<Qcow2Shape> shapes() {
  return {{.cluster_bits = 9},
          {.version = 2, .cluster_bits = 9},
          {.cluster_bits = 9, .refcount_order = 6},
          {.cluster_bits = 9, .lazy_refcounts = true},
          {.cluster_bits = 14, .extended_l2 = true}};
}
INSTANTIATE_TEST_SUITE_P(Shapes, CompactTest, ::testing::ValuesIn(shapes()));

TEST(CompactRefusals, SayWhy) {
  const auto reason = [](const std::function<void(ImageWorld&)>& prepare, Qcow2Shape shape) {
    shape.cluster_bits = 12;
    shape.size = 1 << 20;
    ImageWorld image;
    Qcow2Builder builder(shape);
    if (!shape.external_data()) {
      const std::vector<std::byte> zeroes(4096);
      EXPECT_TRUE(!shape.zstd || builder.compressed(0, zeroes));
    }
    image.world().add("image", builder.finish());
    if (shape.external_data()) {
      image.world().add(shape.data_file, builder.finish_data());
    }
    EXPECT_TRUE(image.open());
    prepare(image);
    const auto result = image.run(image.edge().compact({}));
    return result ? std::string() : result.error().message();
  };
  const auto nothing = [](ImageWorld&) {};
  EXPECT_EQ(reason(nothing, {}), "");
  EXPECT_EQ(reason(nothing, {.data_file = "data"}), "its data is in an external data file");
  EXPECT_EQ(reason(nothing, {.zstd = true}), "it has compressed clusters");
  EXPECT_EQ(reason(
                [](ImageWorld& image) {
                  EXPECT_TRUE(image.run(image.edge().create_snapshot({.id = "1", .name = "a"})));
                },
                {}),
            "it has snapshots inside");
}

// ---- Errors and power cuts.

void fail_everywhere(const Gaps& gaps, int error) {
  for (uint64_t request = 0, hit = 1; hit != 0; ++request) {
    SCOPED_TRACE(fmt::format("error {} at request {}", error, request));
    CompactWorld image(gaps);
    ASSERT_TRUE(image.open());
    image.world().add_fault({.after = request, .error = error, .torn = request % 2 == 1});
    const Result<void> result = image.compact();
    hit = image.world().faults();
    image.world().clear_faults();
    EXPECT_TRUE(result || hit != 0);
    image.expect_content();
    const Result<void> again = image.compact();
    EXPECT_TRUE(again) << again.error().message();
    image.expect_content();
    // The search for free clusters is not led astray.
    ASSERT_TRUE(image.write(7, 0, 64 * kTinyCluster));
    ASSERT_TRUE(image.flush());
    ASSERT_TRUE(image.discard(0, 64 * kTinyCluster));
    ASSERT_TRUE(image.close());
    image.expect_sound(true);
    ASSERT_TRUE(image.open(false));
    image.expect_content();
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

// What a failed attempt may have written does not matter to what is written next.
void fail_and_fill_everywhere(const Gaps& gaps) {
  for (uint64_t request = 0, hit = 1; hit != 0; ++request) {
    SCOPED_TRACE(fmt::format("error at request {}", request));
    CompactWorld image(gaps);
    ASSERT_TRUE(image.open());
    image.world().add_fault({.after = request, .error = EIO});
    static_cast<void>(image.compact());
    hit = image.world().faults();
    image.world().clear_faults();
    ASSERT_TRUE(image.write(7, 0, kDisk));
    ASSERT_TRUE(image.flush());
    EXPECT_TRUE(image.holds(7, 0, kDisk));
    ASSERT_TRUE(image.close());
    image.expect_sound(true);
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

void cut_everywhere(const Gaps& gaps) {
  for (uint64_t request = 1, seeds = 0; seeds < 2; ++request) {
    SCOPED_TRACE(fmt::format("cut at request {}, seed {}", request, seeds));
    CompactWorld image(gaps, request * 31 + seeds);
    ASSERT_TRUE(image.open());
    image.world().cut_power_at(request);
    static_cast<void>(image.compact());
    if (image.world().powered()) {
      image.world().cut_power();
      ++seeds;
      request = 0;
    }
    static_cast<void>(image.close());
    image.world().restore_power();
    image.expect_sound(true);
    ASSERT_TRUE(image.open());
    image.expect_content();
    const Result<void> again = image.compact();
    ASSERT_TRUE(again) << again.error().message();
    image.expect_content();
    ASSERT_TRUE(image.close());
    image.expect_sound(true);
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

TEST(CompactSeries, AfterAnErrorAtAnyRequestTheImageReadsTheSame) {
  const Gaps gaps = make_gaps({.cluster_bits = 9}, 29);
  fail_everywhere(gaps, EIO);
  fail_and_fill_everywhere(gaps);
}

TEST(CompactSeries, AfterAPowerCutAtAnyRequestTheImageReadsTheSame) {
  cut_everywhere(make_gaps({.cluster_bits = 9}, 29));
  cut_everywhere(make_gaps({.cluster_bits = 9, .lazy_refcounts = true}, 41));
}

}  // namespace
}  // namespace cairn::qcow2
