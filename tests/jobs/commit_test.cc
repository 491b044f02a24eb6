// Tests of jobs/commit.h on simulated disks: what ends up where, and every error and power cut on
// the way.
#include "jobs/commit.h"

#include <array>

#include "tests/jobs/cluster_content.h"

namespace cairn::jobs {
namespace {

using qcow2::ImageWorld;
using testing::kZeroes;
using testing::Qcow2Builder;

// "image" over "base": of the image's first six clusters two are its own, one is zero.
class CommitWorld : public ImageWorld {
 public:
  explicit CommitWorld(uint64_t seed = 1, uint64_t base_length = kLength,
                       const std::string& below = "")
      : ImageWorld(seed) {
    Qcow2Builder base({.cluster_bits = 12,
                       .size = base_length,
                       .backing_file = below,
                       .backing_format = below.empty() ? "" : "qcow2"});
    for (uint64_t offset = 0; offset < 6 * kCluster; offset += kCluster) {
      base.data(offset, content(1, offset));
    }
    world().add("base", base.finish());
    Qcow2Builder image(
        {.cluster_bits = 12, .size = kLength, .backing_file = "base", .backing_format = "qcow2"});
    image.data(kCluster, content(2, kCluster));
    image.data(4 * kCluster, content(2, 4 * kCluster));
    image.zero(2 * kCluster, false);
    world().add("image", image.finish());
    set_writable_backing(1);
  }

  Result<void> commit(CommitOptions options = {}) {
    using P = block::PermissionSet;
    auto base =
        graph().attach(edge().node().backing()->shared_node(), "a commit",
                       {.used = P::kConsistentRead | P::kWrite | P::kResize, .shared = P::all()});
    if (!base) {
      return pass(base);
    }
    options.overlay = &edge();
    options.base = base->get();
    Result<void> result = run(commit_image(options));
    const Result<void> detached = run(graph().detach(std::move(*base)));
    return result ? detached : result;
  }

  // What the image reads as: before, afterwards, and at any time between.
  void expect_content() {
    for (uint64_t index = 0; index < kLength / kCluster; ++index) {
      constexpr std::array<uint64_t, 6> kNumbers = {1, 2, kZeroes, 1, 2, 1};
      const uint64_t number = index < kNumbers.size() ? kNumbers[index] : kZeroes;
      EXPECT_TRUE(holds(number, index * kCluster, kCluster)) << "cluster " << index;
    }
  }
  uint64_t own_clusters() {
    uint64_t own = 0;
    for (uint64_t offset = 0; offset < kLength; offset += kCluster) {
      const auto status = run(edge().status(offset, kCluster));
      own += status && status->allocated ? 1 : 0;
    }
    return own;
  }
  testing::Qcow2Verifier::Report verify_base() {
    return testing::Qcow2Verifier(world().find("base")->disk.visible()).verify();
  }
  void expect_sound() {
    EXPECT_EQ(verify().corruptions, std::vector<std::string>{});
    EXPECT_EQ(verify_base().corruptions, std::vector<std::string>{});
    EXPECT_EQ(world().violations(), std::vector<std::string>{});
  }
};

TEST(CommitTest, MovesWhatTheImageHasOfItsOwnAndEmptiesIt) {
  CommitWorld image;
  ASSERT_TRUE(image.open());
  EXPECT_EQ(image.own_clusters(), 3u);
  const auto committed = image.commit();
  ASSERT_TRUE(committed) << committed.error().message();
  EXPECT_EQ(image.own_clusters(), 0u);
  image.expect_content();
  ASSERT_TRUE(image.close());
  image.expect_sound();
  EXPECT_EQ(image.verify().leaks + image.verify_base().leaks, 0u);
  ASSERT_TRUE(image.open(false));
  image.expect_content();
}

TEST(CommitTest, KeepsTheImageWhenAskedTo) {
  CommitWorld image;
  ASSERT_TRUE(image.open());
  ASSERT_TRUE(image.commit({.empty = false}));
  EXPECT_EQ(image.own_clusters(), 3u);
  image.expect_content();
  ASSERT_TRUE(image.run(image.edge().make_empty()));
  image.expect_content();
}

TEST(CommitTest, TellsHowFarItIs) {
  CommitWorld image;
  ASSERT_TRUE(image.open());
  uint64_t last = 0;
  CommitOptions options;
  options.progress = [&last](uint64_t done, uint64_t total) {
    EXPECT_GE(done, last);
    EXPECT_EQ(total, kLength);
    last = done;
  };
  ASSERT_TRUE(image.commit(options));
  EXPECT_EQ(last, kLength);
}

TEST(CommitTest, AReadOnlyBaseIsRefused) {
  CommitWorld image;
  image.set_writable_backing(0);
  ASSERT_TRUE(image.open());
  const auto refused = image.commit();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "Block node is read-only");
  EXPECT_EQ(image.own_clusters(), 3u);
}

// A base that ends early hides what is below it, also while it grows.
class CommitIntoAShortBase : public CommitWorld {
 public:
  explicit CommitIntoAShortBase(uint64_t seed = 1, uint64_t base_length = 7 * kCluster)
      : CommitWorld(seed, base_length, "low") {
    Qcow2Builder low({.cluster_bits = 12, .size = 2 * kLength});
    for (uint64_t offset = 6 * kCluster; offset < 2 * kLength; offset += kCluster) {
      low.data(offset, content(9, offset));
    }
    world().add("low", low.finish());
  }
  // Its seventh cluster shows what is below.
  void expect_content() {
    EXPECT_TRUE(holds(9, 6 * kCluster, kCluster));
    EXPECT_TRUE(holds(kZeroes, 7 * kCluster, kLength - 7 * kCluster));
    EXPECT_TRUE(holds(2, 4 * kCluster, kCluster));
  }
};

// One that ends within a cluster whose rest is still full of something.
class CommitIntoABaseWithATail : public CommitIntoAShortBase {
 public:
  explicit CommitIntoABaseWithATail(uint64_t seed = 1)
      : CommitIntoAShortBase(seed, 5 * kCluster + 512) {}
  void expect_content() {
    EXPECT_TRUE(holds(1, 5 * kCluster, 512));
    EXPECT_TRUE(holds(kZeroes, 5 * kCluster + 512, kLength - 5 * kCluster - 512));
    EXPECT_TRUE(holds(2, 4 * kCluster, kCluster));
  }
};

// What hides what is below the base may itself be lost with the power.
TEST(CommitSeries, WritesThatWereNotFlushedBeforeItAreThereOrNotAfterAPowerCut) {
  bool done = false;
  for (uint64_t request = 1; !done; ++request) {
    CommitIntoAShortBase image(request);
    ASSERT_TRUE(image.open());
    ASSERT_TRUE(image.write(7, 7 * kCluster, kLength - 7 * kCluster));
    image.world().cut_power_at(request);
    static_cast<void>(image.commit());
    done = image.world().powered();
    if (done) {
      image.world().cut_power();
    }
    static_cast<void>(image.close());
    image.world().restore_power();
    ASSERT_TRUE(image.open(false));
    for (uint64_t offset = 7 * kCluster; offset < kLength; offset += kCluster) {
      EXPECT_TRUE(image.holds(kZeroes, offset, kCluster) || image.holds(7, offset, kCluster))
          << "at " << offset << ", power cut at request " << request;
    }
    ASSERT_TRUE(image.close());
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

TEST(CommitTest, AShortBaseGrowsAndShowsNothingOfWhatIsBelow) {
  CommitIntoAShortBase image;
  ASSERT_TRUE(image.open());
  image.expect_content();
  ASSERT_TRUE(image.commit());
  EXPECT_EQ(image.own_clusters(), 0u);
  EXPECT_EQ(image.edge().node().backing()->length(), kLength);
  image.expect_content();
  ASSERT_TRUE(image.close());
  image.expect_sound();
}

// ---- Errors and power cuts.

template <typename World>
void fail_everywhere(int error) {
  for (uint64_t request = 0, hit = 1; hit != 0; ++request) {
    SCOPED_TRACE(fmt::format("error {} at request {}", error, request));
    World image;
    ASSERT_TRUE(image.open());
    image.world().add_fault({.after = request, .error = error, .torn = request % 2 == 1});
    const Result<void> result = image.commit();
    hit = image.world().faults();
    image.world().clear_faults();
    EXPECT_TRUE(result || hit != 0);
    EXPECT_TRUE(!result || image.own_clusters() == 0);
    image.expect_content();
    // It can be done again.
    const Result<void> again = image.commit();
    EXPECT_TRUE(again) << again.error().message();
    image.expect_content();
    ASSERT_TRUE(image.close());
    image.expect_sound();
    EXPECT_EQ(image.verify().leaks + image.verify_base().leaks, 0u);
    ASSERT_TRUE(image.open(false));
    EXPECT_EQ(image.own_clusters(), 0u);
    image.expect_content();
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

template <typename World>
void cut_everywhere() {
  for (uint64_t request = 1, seeds = 0; seeds < 3; ++request) {
    SCOPED_TRACE(fmt::format("cut at request {}, seed {}", request, seeds));
    World image(request * 31 + seeds);
    ASSERT_TRUE(image.open());
    image.world().cut_power_at(request);
    static_cast<void>(image.commit());
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
    ASSERT_TRUE(image.commit());
    image.expect_content();
    ASSERT_TRUE(image.close());
    image.expect_sound();
    ASSERT_FALSE(::testing::Test::HasFailure());
  }
}

TEST(CommitSeries, AfterAnErrorAtAnyRequestTheImageReadsAsBefore) {
  for (const int error : {EIO, ENOSPC}) {
    fail_everywhere<CommitWorld>(error);
    fail_everywhere<CommitIntoAShortBase>(error);
    fail_everywhere<CommitIntoABaseWithATail>(error);
  }
}

TEST(CommitSeries, AfterAPowerCutAtAnyRequestTheImageReadsAsBefore) {
  cut_everywhere<CommitWorld>();
  cut_everywhere<CommitIntoAShortBase>();
  cut_everywhere<CommitIntoABaseWithATail>();
}

}  // namespace
}  // namespace cairn::jobs
