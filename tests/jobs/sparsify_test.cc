// Tests of jobs/sparsify.h on simulated disks: what is given up, that nothing is read differently,
// and every error and power cut on the way.
#include "jobs/sparsify.h"

#include <array>

#include "tests/jobs/cluster_content.h"

namespace cairn::jobs {
namespace {

using qcow2::ImageWorld;
using testing::kZeroes;
using testing::Qcow2Builder;
using testing::Qcow2Shape;

// What the clusters read as; from the sixth on what is behind the image shows, where there is
// something. Those that are zeroes are, in their order: two of data, one that keeps its place, one
// that is compressed.
constexpr std::array<uint64_t, 6> kNumbers = {2, kZeroes, kZeroes, 2, kZeroes, kZeroes};
constexpr uint64_t kZeroBytes = 4 * kCluster;

class SparsifyWorld : public ImageWorld {
 public:
  explicit SparsifyWorld(Qcow2Shape shape = {}, uint64_t seed = 1)
      : ImageWorld(seed), has_backing_(!shape.backing_file.empty()) {
    shape.cluster_bits = 12;
    shape.size = kLength;
    const bool has_zero_clusters = shape.version >= 3;
    if (has_backing_) {
      Qcow2Builder base({.cluster_bits = 12, .size = kLength});
      for (uint64_t offset = 0; offset < kLength; offset += kCluster) {
        base.data(offset, content(1, offset));
      }
      world().add("base", base.finish());
    }
    Qcow2Builder image(std::move(shape));
    for (uint64_t i = 0; i < kNumbers.size(); ++i) {
      if (i == 4 && has_zero_clusters) {
        image.zero(i * kCluster, true);
      } else if (i == 5) {
        EXPECT_TRUE(image.compressed(i * kCluster, content(kZeroes, i * kCluster)));
      } else {
        image.data(i * kCluster, content(kNumbers[i], i * kCluster));
      }
    }
    world().add("image", image.finish());
  }

  Result<SparsifyOutcome> sparsify(SparsifyOptions options = {}) {
    options.image = &edge();
    return run(sparsify_image(options));
  }
  void expect_content() {
    for (uint64_t i = 0; i < kLength / kCluster; ++i) {
      const uint64_t beyond = has_backing_ ? 1 : kZeroes;
      EXPECT_TRUE(holds(i < kNumbers.size() ? kNumbers[i] : beyond, i * kCluster, kCluster))
          << "cluster " << i;
    }
  }
  // Clusters that have a place, compressed ones included.
  uint64_t places() {
    uint64_t count = 0;
    for (uint64_t offset = 0; offset < kLength; offset += kCluster) {
      const auto status = run(edge().status(offset, kCluster));
      count += status && (status->host != nullptr || status->compressed) ? 1 : 0;
    }
    return count;
  }
  void expect_sound() {
    EXPECT_EQ(verify().corruptions, std::vector<std::string>{});
    EXPECT_EQ(world().violations(), std::vector<std::string>{});
  }

 private:
  bool has_backing_;
};

const Qcow2Shape kOverlay{.backing_file = "base", .backing_format = "qcow2"};
const Qcow2Shape kOld{.version = 2};

TEST(SparsifyTest, GivesUpWhatReadsAsZeroesAndNothingElse) {
  for (const Qcow2Shape& shape : {Qcow2Shape{}, kOverlay, kOld}) {
    SparsifyWorld image(shape);
    ASSERT_TRUE(image.open());
    EXPECT_EQ(image.places(), kNumbers.size());
    const auto outcome = image.sparsify();
    ASSERT_TRUE(outcome) << outcome.error().message();
    EXPECT_EQ(outcome->given_up, kZeroBytes);
    EXPECT_EQ(outcome->kept, 0u);
    EXPECT_EQ(image.places(), 2u);
    image.expect_content();
    ASSERT_TRUE(image.close());
    image.expect_sound();
    EXPECT_EQ(image.verify().leaks, 0u);
    ASSERT_TRUE(image.open());
    image.expect_content();
    // There is nothing more to give up.
    const auto again = image.sparsify();
    ASSERT_TRUE(again);
    EXPECT_EQ(again->given_up, 0u);
  }
}

TEST(SparsifyTest, WhereTheBackingFileWouldShowZeroesAreKept) {
  Qcow2Shape shape = kOverlay;
  shape.version = 2;
  SparsifyWorld image(shape);
  ASSERT_TRUE(image.open());
  const auto outcome = image.sparsify();
  ASSERT_TRUE(outcome) << outcome.error().message();
  EXPECT_EQ(outcome->given_up, 0u);
  EXPECT_EQ(outcome->kept, kZeroBytes);
  EXPECT_EQ(image.places(), kNumbers.size());
  image.expect_content();
}

TEST(SparsifyTest, PartsOfClustersAreKept) {
  SparsifyWorld image;
  ASSERT_TRUE(image.open());
  ASSERT_TRUE(image.write(7, kCluster + 512, 512));
  const auto outcome = image.sparsify();
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->given_up, kZeroBytes - kCluster);
  EXPECT_TRUE(image.holds(7, kCluster + 512, 512));
  EXPECT_TRUE(image.holds(kZeroes, kCluster, 512));
}

TEST(SparsifyTest, SnapshotsReadTheSame) {
  SparsifyWorld image;
  ASSERT_TRUE(image.open());
  ASSERT_TRUE(image.run(image.edge().create_snapshot({.id = "1", .name = "before"})));
  ASSERT_TRUE(image.sparsify());
  image.expect_content();
  ASSERT_TRUE(image.run(image.edge().apply_snapshot("1")));
  image.expect_content();
  ASSERT_TRUE(image.close());
  image.expect_sound();
  EXPECT_EQ(image.verify().leaks, 0u);
}

TEST(SparsifyTest, TellsHowFarItIsAndCanBeCancelled) {
  SparsifyWorld image;
  ASSERT_TRUE(image.open());
  uint64_t last = 0;
  io::CancelSource stop;
  stop.cancel();
  const auto cancelled = image.sparsify({.cancel = stop.token()});
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code(), ECANCELED);
  EXPECT_EQ(image.places(), kNumbers.size());
  ASSERT_TRUE(image.sparsify({.progress = [&last](uint64_t done, uint64_t total) {
    EXPECT_GE(done, last);
    EXPECT_EQ(total, kLength);
    last = done;
  }}));
  EXPECT_EQ(last, kLength);
}

// ---- Errors and power cuts.

void fail_everywhere(const Qcow2Shape& shape, int error) {
  for (uint64_t request = 0, hit = 1; hit != 0; ++request) {
    SCOPED_TRACE(fmt::format("error {} at request {}", error, request));
    SparsifyWorld image(shape);
    ASSERT_TRUE(image.open());
    image.world().add_fault({.after = request, .error = error, .torn = request % 2 == 1});
    const auto outcome = image.sparsify();
    const Result<void> flushed = image.flush();
    hit = image.world().faults();
    image.world().clear_faults();
    EXPECT_TRUE((outcome && flushed) || hit != 0);
    image.expect_content();
    ASSERT_TRUE(image.sparsify());
    EXPECT_EQ(image.places(), 2u);
    ASSERT_TRUE(image.close());
    image.expect_sound();
    ASSERT_TRUE(image.open(false));
    image.expect_content();
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

void cut_everywhere(const Qcow2Shape& shape) {
  for (uint64_t request = 1, seeds = 0; seeds < 5; ++request) {
    SCOPED_TRACE(fmt::format("cut at request {}, seed {}", request, seeds));
    SparsifyWorld image(shape, request * 31 + seeds);
    ASSERT_TRUE(image.open());
    image.world().cut_power_at(request);
    static_cast<void>(image.sparsify());
    static_cast<void>(image.flush());
    if (image.world().powered()) {
      image.world().cut_power();
      ++seeds;
      request = 0;
    }
    static_cast<void>(image.close());
    image.world().restore_power();
    image.expect_sound();
    ASSERT_TRUE(image.open());
    image.expect_content();
    ASSERT_TRUE(image.sparsify());
    EXPECT_EQ(image.places(), 2u);
    image.expect_content();
    ASSERT_TRUE(image.close());
    image.expect_sound();
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

TEST(SparsifySeries, AfterAnErrorAtAnyRequestTheImageReadsTheSame) {
  for (const Qcow2Shape& shape : {Qcow2Shape{}, kOverlay, kOld}) {
    fail_everywhere(shape, EIO);
    fail_everywhere(shape, ENOSPC);
  }
}

TEST(SparsifySeries, AfterAPowerCutAtAnyRequestTheImageReadsTheSame) {
  for (const Qcow2Shape& shape : {Qcow2Shape{}, kOverlay, kOld}) {
    cut_everywhere(shape);
  }
}

}  // namespace
}  // namespace cairn::jobs
