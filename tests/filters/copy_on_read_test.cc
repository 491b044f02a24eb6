// What copy-on-read keeps, what it leaves alone, and who may come in between.
#include "filters/copy_on_read.h"

#include "io/task_group.h"
#include "tests/filters/filter_test.h"
#include "tests/support/random.h"

namespace cairn::filters {
namespace {

constexpr uint64_t kChainLength = 8 * kCluster;

// "base" has data in its first four clusters, "mid" in the sixth, "top" nothing.
class CopyOnReadTest : public FilterTest {
 protected:
  explicit CopyOnReadTest(uint64_t seed = 1) : FilterTest(seed) {}

  void SetUp() override {
    for (const std::string name : {"base", "mid", "top"}) {
      create_image(name + ".qcow2", kChainLength);
      ASSERT_EQ(add(file(name + "-file", name + ".qcow2")), "");
    }
    ASSERT_EQ(add(qcow2("base", "base-file")), "");
    fill("base", 1, 0, 4 * kCluster);
    ASSERT_EQ(add(qcow2("mid", "mid-file", "base")), "");
    fill("mid", 2, 5 * kCluster, kCluster);
    ASSERT_EQ(add(qcow2("top", "top-file", "mid")), "");
  }
  void fill(const std::string& name, testing::WriteNumber number, uint64_t offset,
            uint64_t length) {
    block::Edge& edge = attach(name);
    ASSERT_EQ(write(edge, number, offset, length), "");
    detach(edge);
  }
};

TEST_F(CopyOnReadTest, KeepsWholeClustersOfWhatIsRead) {
  ASSERT_EQ(add(copy_on_read("c", "top")), "");
  block::Edge& edge = attach("c");
  EXPECT_EQ(check(edge, 1, 100, 200), "");
  EXPECT_EQ(check(edge, 1, 3 * kCluster - 512, 1024), "");
  EXPECT_EQ(check(edge, 2, 5 * kCluster + 512, 512), "");
  EXPECT_EQ(check(edge, testing::kZeroes, 7 * kCluster + 1024, 512), "");
  EXPECT_EQ(clusters(edge), "d.dd.d.z");
  const uint64_t reads = world_.submitted(testing::IoKind::kWrite);
  EXPECT_EQ(check(edge, 1, 0, kCluster), "");
  EXPECT_EQ(world_.submitted(testing::IoKind::kWrite), reads) << "it was there already";
  for (const std::string name : {"base", "mid"}) {
    EXPECT_EQ(clusters(attach(name, {})), name == "base" ? "dddd...." : ".....d..");
  }
}

TEST_F(CopyOnReadTest, ALongReadGoesThroughAllOfIt) {
  ASSERT_EQ(add(copy_on_read("c", "top")), "");
  block::Edge& edge = attach("c");
  fill("top", 3, kCluster + 512, 512);
  std::vector<std::byte> data(kChainLength - 1024);
  ASSERT_TRUE(run(edge.read(512, data.data(), data.size())).has_value());
  EXPECT_EQ(clusters(edge), "ddddzdzz");
  EXPECT_EQ(check(edge, 3, kCluster + 512, 512), "");
  EXPECT_EQ(check(edge, 1, kCluster + 1024, 512), "");
}

TEST_F(CopyOnReadTest, LeavesWhatLiesBelowTheBottom) {
  ASSERT_EQ(add(copy_on_read("c", "top", "mid")), "");
  block::Edge& edge = attach("c");
  EXPECT_EQ(check(edge, 1, 0, 4 * kCluster), "");
  EXPECT_EQ(check(edge, 2, 5 * kCluster, kCluster), "");
  EXPECT_EQ(check(edge, testing::kZeroes, 6 * kCluster, 2 * kCluster), "");
  EXPECT_EQ(clusters(edge), ".....d..");
}

TEST_F(CopyOnReadTest, SaysWhatIsWrongWithABottom) {
  EXPECT_EQ(add(copy_on_read("c", "top", "nobody")), "Bottom node 'nobody' not found");
  ASSERT_EQ(add(copy_on_read("f", "mid")), "");
  EXPECT_EQ(add(copy_on_read("c", "top", "f")), "Bottom node 'f' is a filter");
  EXPECT_EQ(add(copy_on_read("c", "mid", "top")),
            "Bottom node 'top' is not in the backing chain of node 'mid'");
}

TEST_F(CopyOnReadTest, NeedsANodeThatCanBeWrittenTo) {
  ASSERT_EQ(remove("top"), "");
  schema::BlockdevOptions options = qcow2("top", "top-file", "mid");
  options.read_only = true;
  ASSERT_EQ(add(options), "");
  EXPECT_EQ(add(copy_on_read("c", "top")), "Block node is read-only");
}

TEST_F(CopyOnReadTest, ReportsThatItCanNotKeepSomething) {
  ASSERT_EQ(add(copy_on_read("c", "top")), "");
  block::Edge& edge = attach("c");
  world_.add_fault({.kind = testing::IoKind::kWrite, .file = "top.qcow2", .times = 1});
  EXPECT_NE(check(edge, 1, 0, 512), "");
  EXPECT_EQ(clusters(edge), "........");
  EXPECT_EQ(check(edge, 1, 0, 512), "");
}

TEST_F(CopyOnReadTest, WorksThroughOtherFilters) {
  throttles_["g"] = std::make_shared<io::Throttle>();
  ASSERT_EQ(add(throttle("t", "top", "g")), "");
  ASSERT_EQ(add(raw("r", "t")), "");
  ASSERT_EQ(add(copy_on_read("c", "r")), "");
  block::Edge& edge = attach("c");
  EXPECT_EQ(check(edge, 1, 2 * kCluster, 512), "");
  EXPECT_EQ(check(edge, testing::kZeroes, 4 * kCluster, 512), "");
  EXPECT_EQ(clusters(edge), "..d.z...");
}

TEST_F(CopyOnReadTest, MarksNothingAsDirty) {
  ASSERT_EQ(add(copy_on_read("c", "top")), "");
  block::Edge& edge = attach("c");
  const auto top = graph_.find("top");
  top->set_write_threshold(1);
  EXPECT_EQ(check(edge, 1, 0, 512), "");
  EXPECT_EQ(top->write_threshold(), 1U);
}

// Reads copy up while somebody writes parts of the same clusters, right to the image.
class CopyOnReadRaces : public CopyOnReadTest, public ::testing::WithParamInterface<uint64_t> {
 protected:
  CopyOnReadRaces() : CopyOnReadTest(GetParam()) {}

  static io::Task<void> read_all(block::Edge& edge, testing::Random random) {
    std::vector<std::byte> data(kCluster);
    for (int i = 0; i < 12; ++i) {
      const uint64_t offset = 512 * random.below(4 * kCluster / 512);
      const uint64_t length = std::min(512 * random.between(1, 32), 4 * kCluster - offset);
      EXPECT_TRUE((co_await edge.read(offset, data.data(), length)).has_value());
    }
  }
  // Writes some of the sectors whose number leaves `rest` when divided by 16.
  static io::Task<void> write_some(block::Edge& edge, uint64_t rest, testing::Random random,
                                   std::map<uint64_t, testing::WriteNumber>& written) {
    for (int i = 0; i < 12; ++i) {
      const uint64_t sector = 16 * random.below(4 * kCluster / 512 / 16) + rest;
      const testing::WriteNumber number = 100 + 16 * static_cast<unsigned>(i) + rest;
      std::vector<std::byte> data(512);
      testing::fill_pattern(number, sector * 512, data);
      EXPECT_TRUE((co_await edge.write(sector * 512, data.data(), 512)).has_value());
      written[sector] = number;
    }
  }
  static io::Task<void> join(io::TaskGroup& group) { co_await group.join(); }
};

TEST_P(CopyOnReadRaces, NothingThatWasWrittenIsLost) {
  ASSERT_EQ(add(copy_on_read("c", "top")), "");
  block::Edge& filter = attach("c");
  block::Edge& top = attach("top");
  world_.set_delays(std::chrono::microseconds(500));
  testing::Random random(GetParam());
  std::map<uint64_t, testing::WriteNumber> written;
  io::TaskGroup group;
  for (uint64_t i = 0; i < 4; ++i) {
    group.spawn(read_all(filter, random.fork()));
    group.spawn(write_some(i % 2 == 0 ? top : filter, i, random.fork(), written));
  }
  run(join(group));
  for (uint64_t sector = 0; sector < 4 * kCluster / 512; ++sector) {
    const auto found = written.find(sector);
    const testing::WriteNumber number = found != written.end() ? found->second : 1;
    ASSERT_EQ(check(top, number, sector * 512, 512), "") << "seed " << GetParam();
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, CopyOnReadRaces, ::testing::Range<uint64_t>(1, 31));

}  // namespace
}  // namespace cairn::filters
