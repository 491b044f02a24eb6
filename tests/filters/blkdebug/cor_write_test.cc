// The event of copy-on-read, cor_write: what is read must not suffer from a copy that fails.
#include <cerrno>

#include "filters/blkdebug/blkdebug.h"
#include "tests/filters/filter_test.h"

namespace cairn::filters {
namespace {

using schema::BlkdebugIOType;

// A copy-on-read node over blkdebug over an overlay, whose base holds write 1.
class CorWriteTest : public FilterTest {
 protected:
  void SetUp() override {
    drivers_.add(kBlkdebugDriver);
    create_image("base.img", 4 * kCluster);
    create_image("top.img", 4 * kCluster);
    ASSERT_EQ(add(file("base-file", "base.img")), "");
    ASSERT_EQ(add(qcow2("base", "base-file")), "");
    block::Edge& base = attach("base");
    ASSERT_EQ(write(base, 1, 0, 4 * kCluster), "");
    detach(base);
    ASSERT_EQ(add(file("f", "top.img")), "");
    ASSERT_EQ(add(qcow2("top", "f", "base")), "");
  }
  void add_filters(schema::BlkdebugInjectErrorOptions rule) {
    schema::BlockdevOptionsBlkdebug branch;
    branch.image = to("top");
    branch.inject_error.emplace().push_back(rule);
    ASSERT_EQ(add(make(schema::BlockdevDriver::kBlkdebug, "debug", std::move(branch))), "");
    ASSERT_EQ(add(copy_on_read("cor", "debug")), "");
  }
  void remove_filters() {
    EXPECT_EQ(remove("cor"), "");
    EXPECT_EQ(remove("debug"), "");
  }
};

TEST_F(CorWriteTest, ComesBeforeEachCopy) {
  add_filters({.event = schema::BlkdebugEvent::kCorWrite,
               .iotype = BlkdebugIOType::kWrite,
               .errno_ = ENOSPC});
  block::Edge& edge = attach("cor");
  std::vector<std::byte> data(512);
  const Result<void> read = run(edge.read(0, data.data(), data.size()));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ENOSPC);
}

TEST_F(CorWriteTest, AFaultThereLosesNothing) {
  for (const BlkdebugIOType kind : {BlkdebugIOType::kRead, BlkdebugIOType::kWrite,
                                    BlkdebugIOType::kWriteZeroes, BlkdebugIOType::kFlush}) {
    for (const int error : {EIO, ENOSPC}) {
      for (const bool once : {true, false}) {
        add_filters({.event = schema::BlkdebugEvent::kCorWrite,
                     .iotype = kind,
                     .errno_ = error,
                     .once = once});
        block::Edge& edge = attach("cor");
        for (int i = 0; i < 3; ++i) {
          std::vector<std::byte> data(512);
          const Result<void> read = run(edge.read(kCluster, data.data(), data.size()));
          EXPECT_TRUE(read || read.error().code() == error);
          EXPECT_TRUE(!read || testing::matching_prefix(1, kCluster, data) == 512);
        }
        const Result<void> flushed = run(edge.flush());
        EXPECT_TRUE(flushed || flushed.error().code() == error);
        detach(edge);
        remove_filters();
        block::Edge& top = attach("top");
        EXPECT_EQ(check(top, 1, 0, 4 * kCluster), "");
        const auto checked = run(top.node().driver().check({}));
        ASSERT_TRUE(checked);
        EXPECT_EQ(checked->corruptions, 0);
        detach(top);
      }
    }
  }
}

}  // namespace
}  // namespace cairn::filters
