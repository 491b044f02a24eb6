// How far a file grows ahead, and when the surplus goes.
#include "filters/preallocate.h"

#include "io/task_group.h"
#include "tests/filters/filter_test.h"
#include "tests/support/random.h"

namespace cairn::filters {
namespace {

constexpr uint64_t kMiB = 1 << 20;

class PreallocateTest : public FilterTest {
 protected:
  explicit PreallocateTest(uint64_t seed = 1) : FilterTest(seed) {}

  void open(std::optional<int64_t> align = kMiB, std::optional<int64_t> size = kMiB) {
    create_image("a.qcow2", 64 * kMiB);
    ASSERT_EQ(add(file("f", "a.qcow2")), "");
    ASSERT_EQ(add(preallocate("p", "f", align, size)), "");
    ASSERT_EQ(add(qcow2("q", "p")), "");
  }
  uint64_t file_size() { return world_.find("a.qcow2")->disk.size(); }
};

TEST_F(PreallocateTest, TheFileGrowsAheadAndOnlyTheFilterKnows) {
  open();
  block::Edge& edge = attach("q");
  ASSERT_EQ(write(edge, 1, 0, kCluster), "");
  EXPECT_EQ(file_size() % kMiB, 0U);
  EXPECT_GE(file_size(), kMiB);
  const uint64_t size = file_size();
  EXPECT_LT(graph_.find("p")->length(), kMiB);
  ASSERT_EQ(write(edge, 2, kCluster, kCluster), "");
  EXPECT_EQ(file_size(), size) << "there is room for more than one";
  EXPECT_EQ(check(edge, 1, 0, kCluster), "");
  EXPECT_EQ(check(edge, 2, kCluster, kCluster), "");
}

TEST_F(PreallocateTest, TheSurplusGoesWithTheLastWriter) {
  open();
  ASSERT_EQ(write(attach("q"), 1, 0, kCluster), "");
  detach(*edges_.back());
  EXPECT_GE(file_size(), kMiB) << "the format may still write";
  ASSERT_EQ(remove("q"), "");
  EXPECT_LT(file_size(), kMiB);
  EXPECT_EQ(graph_.find("p")->child("file")->permissions().used, block::PermissionSet::none());
  ASSERT_EQ(remove("p"), "");
  ASSERT_EQ(add(qcow2("again", "f")), "");
  EXPECT_EQ(check(attach("again"), 1, 0, kCluster), "");
}

TEST_F(PreallocateTest, TheSurplusGoesBeforeAnotherTakesOver) {
  open();
  block::Edge& edge = attach("q");
  ASSERT_EQ(write(edge, 1, 0, kCluster), "");
  ASSERT_EQ(reopen(qcow2("q", "f")), "");
  EXPECT_LT(file_size(), kMiB);
  ASSERT_EQ(write(edge, 2, kCluster, kCluster), "");
  EXPECT_LT(file_size(), kMiB);
  ASSERT_EQ(reopen(qcow2("q", "p")), "");
  ASSERT_EQ(write(edge, 3, 2 * kCluster, kCluster), "");
  EXPECT_GE(file_size(), kMiB);
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(check(edge, 1 + i, i * kCluster, kCluster), "");
  }
}

TEST_F(PreallocateTest, AFileThatCanNotGrowAheadIsWrittenToAllTheSame) {
  open();
  block::Edge& edge = attach("q");
  world_.add_fault(
      {.kind = testing::IoKind::kZero, .offset = kMiB, .times = UINT64_MAX, .error = ENOSPC});
  ASSERT_EQ(write(edge, 1, 0, 4 * kCluster), "");
  ASSERT_EQ(write(edge, 2, 4 * kCluster, 4 * kCluster), "");
  EXPECT_LT(file_size(), kMiB);
  world_.clear_faults();
  ASSERT_EQ(write(edge, 3, 8 * kCluster, 4 * kCluster), "");
  EXPECT_GE(file_size(), kMiB);
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(check(edge, 1 + i, 4 * i * kCluster, 4 * kCluster), "");
  }
}

TEST_F(PreallocateTest, ResizingStartsFromWhatUsersSee) {
  open();
  ASSERT_EQ(write(attach("q"), 1, 0, kCluster), "");
  detach(*edges_.back());
  ASSERT_EQ(remove("q"), "");
  block::Edge& edge = attach("p", kOwner);
  ASSERT_TRUE(run(edge.resize(2 * kMiB)).has_value());
  EXPECT_EQ(file_size(), 2 * kMiB);
  EXPECT_EQ(edge.length(), 2 * kMiB);
  ASSERT_TRUE(run(edge.resize(kMiB / 2)).has_value());
  EXPECT_EQ(file_size(), kMiB / 2);
}

TEST_F(PreallocateTest, ChecksItsOptions) {
  world_.create("b.img", kMiB);
  ASSERT_EQ(add(file("f", "b.img")), "");
  const std::string unaligned =
      "prealloc-align parameter of preallocate filter is not aligned to 512";
  EXPECT_EQ(add(preallocate("p", "f", 1000)), unaligned);
  EXPECT_EQ(add(preallocate("p", "f", -512)),
            "Parameter 'prealloc-align' expects a non-negative number below 2^64");
  EXPECT_EQ(add(preallocate("p", "f", {}, -1)),
            "Parameter 'prealloc-size' expects a non-negative number below 2^64");
  ASSERT_EQ(add(preallocate("p", "f", 0, 0)), "");
  EXPECT_EQ(reopen(preallocate("p", "f", 1000, 0)), unaligned);
  EXPECT_EQ(reopen(preallocate("p", "f", 4096, INT64_MAX)), "");
}

// Many writers allocate at once, so that growing and writing meet.
class PreallocateRaces : public PreallocateTest, public ::testing::WithParamInterface<uint64_t> {
 protected:
  PreallocateRaces() : PreallocateTest(GetParam()) {}

  static io::Task<void> write_own(block::Edge& edge, uint64_t first) {
    for (uint64_t i = first; i < 64; i += 8) {
      std::vector<std::byte> data(kCluster);
      testing::fill_pattern(i + 1, i * kCluster, data);
      EXPECT_TRUE((co_await edge.write(i * kCluster, data.data(), kCluster)).has_value());
    }
  }
  static io::Task<void> join(io::TaskGroup& group) { co_await group.join(); }
};

TEST_P(PreallocateRaces, NoZeroesFallOnData) {
  open(4096, 2 * kCluster);
  block::Edge& edge = attach("q");
  world_.set_delays(std::chrono::microseconds(500));
  if (GetParam() % 3 == 0) {
    world_.add_fault({.kind = testing::IoKind::kZero, .after = 2, .times = 3, .error = ENOTSUP});
  }
  io::TaskGroup group;
  for (uint64_t i = 0; i < 8; ++i) {
    group.spawn(write_own(edge, i));
  }
  run(join(group));
  for (uint64_t i = 0; i < 64; ++i) {
    ASSERT_EQ(check(edge, i + 1, i * kCluster, kCluster), "") << "seed " << GetParam();
  }
  detach(edge);
  ASSERT_EQ(remove("q"), "");
  EXPECT_EQ(file_size(), graph_.find("p")->driver().length());
  ASSERT_EQ(add(qcow2("q", "f")), "");
  for (uint64_t i = 0; i < 64; ++i) {
    ASSERT_EQ(check(attach("q"), i + 1, i * kCluster, kCluster), "") << "seed " << GetParam();
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, PreallocateRaces, ::testing::Range<uint64_t>(1, 16));

}  // namespace
}  // namespace cairn::filters
