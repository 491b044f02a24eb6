// Tests of jobs/copy.h and jobs/compare.h on real files.
#include "jobs/copy.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <numeric>

#include "jobs/compare.h"
#include "protocols/file/file.h"
#include "protocols/null/null.h"
#include "tests/support/graph_test.h"

namespace cairn::jobs {
namespace {

constexpr uint64_t kMib = 1u << 20;

class CopyTest : public cairn::testing::GraphTest {
 protected:
  CopyTest() : GraphTest({&file::kFileDriver, &null::kNullCoDriver}) {}

  block::Edge* open_file(std::string_view name) {
    return open(cairn::testing::file_options(path(name)), kReadWrite);
  }

  // A file with data in `data` (megabytes) and holes elsewhere.
  block::Edge* make_sparse(std::string_view name, uint64_t size,
                           const std::vector<uint64_t>& data) {
    make_file(name, size);
    block::Edge* edge = open_file(name);
    for (const uint64_t at : data) {
      std::string bytes(kMib, static_cast<char>('a' + at));
      EXPECT_TRUE(write(*edge, at * kMib, bytes));
    }
    return edge;
  }

  uint64_t bytes_written(const block::Edge& edge) { return edge.node().statistics().writes.bytes; }

  CompareOutcome compare(block::Edge* a, block::Edge* b, bool strict = false) {
    return run(compare_images({.first = a, .second = b, .strict = strict}));
  }
};

TEST_F(CopyTest, CopiesDataAndLeavesHolesOut) {
  block::Edge* source = make_sparse("s", 16 * kMib, {0, 5, 15});
  block::Edge* target = make_sparse("t", 16 * kMib, {});
  ASSERT_TRUE(run(copy_images({.sources = {source}, .target = target, .target_is_zero = true})));
  EXPECT_EQ(content("s"), content("t"));
  EXPECT_EQ(bytes_written(*target), 3 * kMib);
}

TEST_F(CopyTest, LeavesOutZeroesThatAreStoredAsData) {
  block::Edge* source = make_sparse("s", 4 * kMib, {1});
  ASSERT_TRUE(write(*source, 2 * kMib, std::string(kMib, '\0')));
  block::Edge* target = make_sparse("t", 4 * kMib, {});
  ASSERT_TRUE(run(copy_images({.sources = {source}, .target = target, .target_is_zero = true})));
  EXPECT_EQ(content("s"), content("t"));
  EXPECT_EQ(bytes_written(*target), kMib);
}

TEST_F(CopyTest, WritesEverythingWhenAskedNotToLookForZeroes) {
  block::Edge* source = make_sparse("s", 4 * kMib, {1});
  block::Edge* target = make_sparse("t", 4 * kMib, {});
  ASSERT_TRUE(run(copy_images(
      {.sources = {source}, .target = target, .sparse_size = 0, .target_is_zero = true})));
  EXPECT_EQ(content("s"), content("t"));
  EXPECT_EQ(bytes_written(*target), 4 * kMib);
}

TEST_F(CopyTest, ClearsWhatATargetHeldBefore) {
  block::Edge* source = make_sparse("s", 8 * kMib, {2});
  block::Edge* target = make_sparse("t", 8 * kMib, {0, 2, 7});
  ASSERT_TRUE(run(copy_images({.sources = {source}, .target = target})));
  EXPECT_EQ(content("s"), content("t"));
}

TEST_F(CopyTest, JoinsSources) {
  block::Edge* first = make_sparse("a", 3 * kMib, {0, 2});
  block::Edge* second = make_sparse("b", 2 * kMib, {1});
  block::Edge* target = make_sparse("t", 5 * kMib, {});
  ASSERT_TRUE(
      run(copy_images({.sources = {first, second}, .target = target, .target_is_zero = true})));
  EXPECT_EQ(content("a") + content("b"), content("t"));
}

TEST_F(CopyTest, CopiesAPart) {
  block::Edge* first = make_sparse("a", 3 * kMib, {0, 2});
  block::Edge* second = make_sparse("b", 3 * kMib, {1, 2});
  const std::string joined = content("a") + content("b");
  const std::vector<std::pair<uint64_t, uint64_t>> parts = {{0, 700},
                                                            {kMib / 2, 2 * kMib},
                                                            {2 * kMib + 1000, 2 * kMib},
                                                            {4 * kMib, UINT64_MAX},
                                                            {6 * kMib, 512}};
  for (const auto& [skip, length] : parts) {
    const std::string wanted = joined.substr(skip, length);
    block::Edge* target = make_sparse("t", wanted.size(), {});
    ASSERT_TRUE(run(copy_images({.sources = {first, second},
                                 .target = target,
                                 .skip = skip,
                                 .length = length,
                                 .target_is_zero = true})));
    EXPECT_EQ(content("t"), wanted) << skip;
    detach(target);
  }
}

TEST_F(CopyTest, GivesTheSameInAnyOrderAndWithAnyNumberOfWorkers) {
  block::Edge* source = make_sparse("s", 12 * kMib, {0, 1, 2, 5, 6, 11});
  for (const unsigned workers : {1u, 3u, 16u}) {
    for (const bool ordered : {false, true}) {
      block::Edge* target = make_sparse("t", 12 * kMib, {});
      ASSERT_TRUE(run(copy_images({.sources = {source},
                                   .target = target,
                                   .workers = workers,
                                   .ordered = ordered,
                                   .target_is_zero = true})));
      EXPECT_EQ(content("s"), content("t"));
      detach(target);
    }
  }
}

TEST_F(CopyTest, TellsHowFarItIs) {
  block::Edge* source = make_sparse("s", 8 * kMib, {0, 4});
  block::Edge* target = make_sparse("t", 8 * kMib, {});
  std::vector<uint64_t> seen;
  CopyOptions options{.sources = {source}, .target = target, .target_is_zero = true};
  options.progress = [&seen](uint64_t done, uint64_t total) {
    EXPECT_EQ(total, 8 * kMib);
    seen.push_back(done);
  };
  ASSERT_TRUE(run(copy_images(options)));
  ASSERT_GE(seen.size(), 3u);
  EXPECT_EQ(seen.front(), 0u);
  EXPECT_EQ(seen.back(), 8 * kMib);
  EXPECT_TRUE(std::ranges::is_sorted(seen));
}

TEST_F(CopyTest, ReportsWhereAWriteFailed) {
  block::Edge* source = make_sparse("s", 2 * kMib, {1});
  block::Edge* target = make_sparse("t", kMib, {});
  const auto copied =
      run(copy_images({.sources = {source}, .target = target, .target_is_zero = true}));
  ASSERT_FALSE(copied);
  EXPECT_TRUE(copied.error().message().starts_with("error while writing at byte"))
      << copied.error().message();
}

// Counts what was written, and cancels or fails once that is enough.
class Counter final : public WriteBehind {
 public:
  [[nodiscard]] io::Task<Result<void>> written(uint64_t bytes) override {
    bytes_ += bytes;
    if (bytes_ >= enough && source != nullptr) {
      source->cancel();
    }
    co_return bytes_ >= enough&& source == nullptr ? Result<void>(fail_errno(EIO, "Enough"))
                                                   : Result<void>();
  }
  [[nodiscard]] uint64_t bytes() const { return bytes_; }

  uint64_t enough = UINT64_MAX;
  io::CancelSource* source = nullptr;

 private:
  uint64_t bytes_ = 0;
};

TEST_F(CopyTest, TellsWhatItHasWritten) {
  block::Edge* source = make_sparse("s", 8 * kMib, {1, 6});
  block::Edge* target = make_sparse("t", 8 * kMib, {});
  Counter counter;
  ASSERT_TRUE(run(copy_images(
      {.sources = {source}, .target = target, .target_is_zero = true, .behind = &counter})));
  EXPECT_EQ(counter.bytes(), 2 * kMib);
}

TEST_F(CopyTest, EndsWhenItIsCancelledAndWhenWhatIsBehindFails) {
  block::Edge* source = make_sparse("s", 8 * kMib, {0, 1, 2, 3, 4, 5, 6, 7});
  block::Edge* target = make_sparse("t", 8 * kMib, {});
  for (const bool cancels : {true, false}) {
    io::CancelSource cancel;
    Counter counter;
    counter.enough = 2 * kMib;
    counter.source = cancels ? &cancel : nullptr;
    const auto copied = run(copy_images({.sources = {source},
                                         .target = target,
                                         .piece_size = kMib / 4,
                                         .behind = &counter,
                                         .cancel = cancel.token()}));
    ASSERT_FALSE(copied);
    EXPECT_EQ(copied.error().code(), cancels ? ECANCELED : EIO);
    EXPECT_LT(counter.bytes(), 8 * kMib);
  }
}

TEST_F(CopyTest, DoesNotWaitForItsRateWhenItIsCancelled) {
  block::Edge* source = make_sparse("s", 2 * kMib, {0, 1});
  block::Edge* target = make_sparse("t", 2 * kMib, {});
  io::CancelSource cancel;
  Counter counter;
  counter.enough = 1;
  counter.source = &cancel;
  const auto copied = run(copy_images({.sources = {source},
                                       .target = target,
                                       .rate_limit = 1,  // which would take days
                                       .behind = &counter,
                                       .cancel = cancel.token()}));
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().code(), ECANCELED);
}

// Copies between edges as a host would between files, every other piece.
class EveryOther final : public Offload {
 public:
  EveryOther(block::Edge& from, block::Edge& to) : from_(from), to_(to) {}
  [[nodiscard]] io::Task<bool> copy(const block::Node& from, uint64_t from_offset, uint64_t to,
                                    uint64_t length) override {
    EXPECT_EQ(&from, &from_.node());
    if (++asked_ % 2 == 0) {
      co_return false;
    }
    std::string bytes(length, '\0');
    const auto data = reinterpret_cast<std::byte*>(bytes.data());
    Result<void> done = co_await from_.read(from_offset, data, length);
    if (done) {
      done = co_await to_.write(to, data, length, {});
    }
    co_return done.has_value();
  }
  [[nodiscard]] unsigned asked() const { return asked_; }

 private:
  block::Edge& from_;
  block::Edge& to_;
  unsigned asked_ = 0;
};

TEST_F(CopyTest, LeavesToTheHostWhatItCanCopy) {
  block::Edge* source = make_sparse("s", 8 * kMib, {0, 3, 4, 7});
  block::Edge* target = make_sparse("t", 8 * kMib, {});
  EveryOther offload(*source, *target);
  ASSERT_TRUE(run(copy_images({.sources = {source},
                               .target = target,
                               .skip = kMib / 2,
                               .piece_size = kMib / 4,
                               .target_is_zero = true,
                               .offload = &offload})));
  EXPECT_EQ(content("s").substr(kMib / 2), content("t").substr(0, 8 * kMib - kMib / 2));
  EXPECT_GE(offload.asked(), 14u);
}

TEST_F(CopyTest, AnEmptySourceIsDoneAtOnce) {
  block::Edge* source = make_sparse("s", 0, {});
  block::Edge* target = make_sparse("t", 0, {});
  EXPECT_TRUE(run(copy_images({.sources = {source}, .target = target})));
}

TEST_F(CopyTest, EqualImagesCompareEqualHoweverTheyAreStored) {
  block::Edge* a = make_sparse("a", 4 * kMib, {1});
  block::Edge* b = make_sparse("b", 4 * kMib, {1});
  ASSERT_TRUE(write(*b, 3 * kMib, std::string(kMib, '\0')));
  EXPECT_FALSE(compare(a, b).difference);
  EXPECT_FALSE(compare(a, b).failure);
  const auto strict = compare(a, b, true);
  ASSERT_TRUE(strict.difference);
  EXPECT_EQ(strict.difference->kind, Difference::Kind::kAllocation);
}

TEST_F(CopyTest, ADifferenceIsFoundToTheSector) {
  block::Edge* a = make_sparse("a", 4 * kMib, {1});
  block::Edge* b = make_sparse("b", 4 * kMib, {1});
  ASSERT_TRUE(write(*b, kMib + 40000, "x"));
  const auto outcome = compare(a, b);
  ASSERT_TRUE(outcome.difference);
  EXPECT_EQ(outcome.difference->kind, Difference::Kind::kContent);
  EXPECT_EQ(outcome.difference->offset, kMib + 39936);
}

TEST_F(CopyTest, OfSeveralDifferencesTheFirstIsTold) {
  std::vector<uint64_t> all(16);
  std::iota(all.begin(), all.end(), 0);
  block::Edge* a = make_sparse("a", 16 * kMib, all);
  block::Edge* b = make_sparse("b", 16 * kMib, all);
  for (uint64_t at = 16 * kMib - 1; at > kMib; at -= 100 * 1024) {
    ASSERT_TRUE(write(*b, at, "x"));
    const auto outcome = compare(a, b);
    ASSERT_TRUE(outcome.difference);
    EXPECT_EQ(outcome.difference->offset, at / 512 * 512);
  }
}

// Compares as a thread would that has the files, every other time it is asked.
class EveryOtherStored final : public StoredCompare {
 public:
  EveryOtherStored(block::Edge& first, block::Edge& second) : edges_{&first, &second} {}
  [[nodiscard]] io::Task<std::optional<uint64_t>> equal_bytes(StoredAt first, StoredAt second,
                                                              uint64_t length) override {
    if (++asked_ % 2 == 0) {
      co_return std::nullopt;
    }
    std::array<std::string, 2> bytes{std::string(length, '\0'), std::string(length, '\1')};
    const std::array<StoredAt, 2> places{first, second};
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(places[i].node, &edges_[i]->node());
      Result<void> read = co_await edges_[i]->read(
          places[i].offset, reinterpret_cast<std::byte*>(bytes[i].data()), length);
      EXPECT_TRUE(read);
    }
    co_return static_cast<uint64_t>(std::ranges::mismatch(bytes[0], bytes[1]).in1 -
                                    bytes[0].begin());
  }
  [[nodiscard]] unsigned asked() const { return asked_; }

 private:
  std::array<block::Edge*, 2> edges_;
  unsigned asked_ = 0;
};

TEST_F(CopyTest, WhatIsStoredIsComparedBesideTheImages) {
  block::Edge* a = make_sparse("a", 16 * kMib, {0, 1, 2, 3, 4, 5, 9});
  block::Edge* b = make_sparse("b", 16 * kMib, {0, 1, 2, 3, 4, 5, 9});
  ASSERT_TRUE(write(*b, 12 * kMib, std::string(kMib, '\0')));
  const auto compare_stored = [&] {
    EveryOtherStored stored(*a, *b);
    auto outcome = run(compare_images({.first = a, .second = b, .stored = &stored}));
    EXPECT_GE(stored.asked(), 1U);
    return outcome;
  };
  EXPECT_FALSE(compare_stored().difference);
  for (const uint64_t at : {9 * kMib + 511, 5 * kMib, 3 * kMib + 2048, uint64_t{0}}) {
    ASSERT_TRUE(write(*b, at, "x"));
    const auto outcome = compare_stored();
    ASSERT_TRUE(outcome.difference);
    EXPECT_EQ(outcome.difference->offset, at / 512 * 512);
  }
}

TEST_F(CopyTest, TheTailOfALongerImageHasToBeZeroes) {
  block::Edge* a = make_sparse("a", 2 * kMib, {1});
  block::Edge* b = make_sparse("b", 6 * kMib, {1});
  EXPECT_FALSE(compare(a, b).difference);
  ASSERT_TRUE(write(*b, 5 * kMib + 700, "x"));
  const auto outcome = compare(b, a);
  ASSERT_TRUE(outcome.difference);
  EXPECT_EQ(outcome.difference->offset, 5 * kMib + 512);
}

TEST_F(CopyTest, OneOfSeveralThatWereJoinedIsComparedAlone) {
  block::Edge* part = make_sparse("a", 2 * kMib, {1});
  block::Edge* all = make_sparse("b", 8 * kMib, {0, 6});
  ASSERT_TRUE(write(*all, 4 * kMib, std::string(kMib, 'b')));
  const auto at = [&](uint64_t begin) {
    return run(
        compare_images({.first = part, .second = all, .second_begin = begin, .first_alone = true}));
  };
  EXPECT_FALSE(at(3 * kMib).difference);
  ASSERT_TRUE(at(2 * kMib).difference);
  EXPECT_EQ(at(2 * kMib).difference->offset, kMib);
  // What is missing of the second image is missing.
  EXPECT_TRUE(at(7 * kMib).difference);
  EXPECT_TRUE(at(9 * kMib).difference);
}

}  // namespace
}  // namespace cairn::jobs
