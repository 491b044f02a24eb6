// What compress stores compressed, and what it needs for that.
#include "filters/compress.h"

#include "tests/filters/filter_test.h"

namespace cairn::filters {
namespace {

class CompressTest : public FilterTest {
 protected:
  void open(uint64_t length) {
    create_image("a.qcow2", length);
    ASSERT_EQ(add(file("f", "a.qcow2")), "");
    ASSERT_EQ(add(qcow2("q", "f")), "");
    ASSERT_EQ(add(compress("c", "q")), "");
  }
  // Bytes that become shorter, unlike patterns.
  std::string write_text(block::Edge& edge, uint64_t offset, uint64_t length, char text) {
    const std::string data(length, text);
    auto written = run(edge.write(offset, data.data(), length));
    return written ? "" : written.error().message();
  }
  std::string read_text(block::Edge& edge, uint64_t offset, uint64_t length) {
    std::string data(length, '?');
    auto read = run(edge.read(offset, data.data(), length));
    return read ? data : read.error().message();
  }
  bool compressed(block::Edge& edge, uint64_t offset) {
    const auto status = run(edge.status(offset, 512));
    return status && status->compressed;
  }
};

TEST_F(CompressTest, WholeClustersAreStoredCompressed) {
  open(8 * kCluster);
  block::Edge& edge = attach("c");
  ASSERT_EQ(write_text(edge, kCluster, 2 * kCluster, 'x'), "");
  EXPECT_TRUE(compressed(edge, kCluster));
  EXPECT_TRUE(compressed(edge, 2 * kCluster));
  EXPECT_FALSE(compressed(edge, 0));
  EXPECT_EQ(read_text(edge, kCluster - 2, 4), std::string("\0\0xx", 4));
  EXPECT_LT(world_.find("a.qcow2")->disk.size(), 6 * kCluster);
}

TEST_F(CompressTest, APartOfAClusterIsFilledUp) {
  open(8 * kCluster);
  block::Edge& edge = attach("c");
  ASSERT_EQ(write_text(edge, 5000, 100, 'x'), "");
  EXPECT_TRUE(compressed(edge, 0));
  EXPECT_EQ(read_text(edge, 4999, 102), std::string(1, '\0') + std::string(100, 'x') + '\0');
}

TEST_F(CompressTest, TheLastClusterMayBeShort) {
  open(kCluster + 1024);
  block::Edge& edge = attach("c");
  ASSERT_EQ(write_text(edge, kCluster + 512, 512, 'x'), "");
  EXPECT_TRUE(compressed(edge, kCluster));
  EXPECT_EQ(read_text(edge, kCluster + 511, 513), std::string(1, '\0') + std::string(512, 'x'));
  EXPECT_EQ(edge.length(), kCluster + 1024);
}

TEST_F(CompressTest, AClusterThatHasDataStays) {
  open(2 * kCluster);
  block::Edge& edge = attach("c");
  ASSERT_EQ(write_text(edge, 0, kCluster, 'x'), "");
  EXPECT_NE(write_text(edge, 0, kCluster, 'y'), "");
  EXPECT_EQ(read_text(edge, 0, 3), "xxx");
}

TEST_F(CompressTest, NeedsAFormatThatCanCompress) {
  world_.create("r.img", 4 * kCluster);
  ASSERT_EQ(add(file("rf", "r.img")), "");
  ASSERT_EQ(add(raw("r", "rf")), "");
  EXPECT_EQ(add(compress("c", "r")), "Compression is not supported for underlying format: raw");
}

TEST_F(CompressTest, GoesThroughOtherFilters) {
  create_image("a.qcow2", 4 * kCluster);
  throttles_["g"] = std::make_shared<io::Throttle>();
  ASSERT_EQ(add(file("f", "a.qcow2")), "");
  ASSERT_EQ(add(qcow2("q", "f")), "");
  ASSERT_EQ(add(throttle("t", "q", "g")), "");
  ASSERT_EQ(add(compress("c", "t")), "");
  ASSERT_EQ(add(copy_on_read("top", "c")), "");
  block::Edge& edge = attach("top");
  ASSERT_EQ(write_text(edge, 0, 512, 'x'), "");
  EXPECT_TRUE(compressed(edge, 0));
  EXPECT_EQ(reopen(compress("c", "t")),
            "Block format 'compress' used by node 'c' does not support reopening files");
}

}  // namespace
}  // namespace cairn::filters
