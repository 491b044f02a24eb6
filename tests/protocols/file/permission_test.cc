// What parents' permissions do to the file: locks, and opening for writing on demand.
#include <fcntl.h>

#include "io/fd.h"
#include "protocols/file/file.h"
#include "protocols/file/image_lock.h"
#include "tests/support/graph_test.h"

namespace cairn::file {
namespace {

using block::PermissionSet;

class PermissionTest : public testing::GraphTest {
 protected:
  PermissionTest() : GraphTest({&kFileDriver}) {}

  void SetUp() override {
    GraphTest::SetUp();
    make_file("a", 4096, 'x');
  }

  static constexpr block::Permissions kExclusiveWriter{
      PermissionSet::kConsistentRead | PermissionSet::kWrite, PermissionSet::kConsistentRead};
};

TEST_F(PermissionTest, TwoWritersOfOneFileExcludeEachOther) {
  block::Edge* first = open(testing::file_options(path("a")), kExclusiveWriter);
  ASSERT_NE(first, nullptr) << error_;
  EXPECT_EQ(open(testing::file_options(path("a")), kExclusiveWriter), nullptr);
  EXPECT_EQ(error_, "Failed to get \"write\" lock");
  EXPECT_NE(open(testing::file_options(path("a")), kRead), nullptr);
  detach(first);
  EXPECT_NE(open(testing::file_options(path("a")), kExclusiveWriter), nullptr) << error_;
}

TEST_F(PermissionTest, TheHintNamesTheImage) {
  ASSERT_NE(open(testing::file_options(path("a")), kExclusiveWriter), nullptr);
  auto node = run(graph_->open(testing::file_options(path("a"))));
  ASSERT_TRUE(node);
  auto edge = graph_->attach(*node, "second", kExclusiveWriter);
  ASSERT_FALSE(edge);
  EXPECT_EQ(edge.error().hint(), "Is another process using the image [" + path("a") + "]?");
  EXPECT_TRUE(run(graph_->release(*node)));
}

TEST_F(PermissionTest, LockingOffTakesNoLocks) {
  ASSERT_NE(open(testing::file_options(path("a")), kExclusiveWriter), nullptr);
  auto options = testing::file_options(path("a"));
  std::get<schema::BlockdevOptionsFile>(options.branch).locking = schema::OnOffAuto::kOff;
  EXPECT_NE(open(options, kExclusiveWriter), nullptr) << error_;
}

TEST_F(PermissionTest, ForceShareReadsBesideAWriter) {
  ASSERT_NE(open(testing::file_options(path("a")), kReadWrite), nullptr);
  const block::Permissions reader{PermissionSet::kConsistentRead, PermissionSet::kConsistentRead};
  auto options = testing::file_options(path("a"));
  options.read_only = true;
  EXPECT_EQ(open(options, reader), nullptr);
  EXPECT_EQ(error_, "Failed to get shared \"write\" lock");
  options.force_share = true;
  EXPECT_NE(open(options, reader), nullptr) << error_;
}

TEST_F(PermissionTest, AutoReadOnlyOpensForWritingOnlyWhileSomebodyWrites) {
  auto options = testing::file_options(path("a"));
  options.auto_read_only = true;
  block::Edge* edge = open(options, kRead);
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_EQ(read(*edge, 0, 2), "xx");
  ASSERT_TRUE(graph_->set_permissions(*edge, kExclusiveWriter));
  EXPECT_TRUE(write(*edge, 0, "yy"));
  // The locks have moved to the new descriptor.
  EXPECT_EQ(open(testing::file_options(path("a")), kExclusiveWriter), nullptr);
  ASSERT_TRUE(graph_->set_permissions(*edge, kRead));
  EXPECT_EQ(read(*edge, 0, 3), "yyx");
  EXPECT_NE(open(testing::file_options(path("a")), kExclusiveWriter), nullptr) << error_;
}

TEST_F(PermissionTest, AFailedPermissionChangeLeavesTheLocksAsTheyWere) {
  block::Edge* reader = open(testing::file_options(path("a")), kRead);
  ASSERT_NE(reader, nullptr) << error_;
  block::Edge* writer = open(testing::file_options(path("a")), kExclusiveWriter);
  ASSERT_NE(writer, nullptr) << error_;
  EXPECT_FALSE(graph_->set_permissions(*reader, kExclusiveWriter));
  EXPECT_EQ(read(*reader, 0, 2), "xx");
  // The reader's attempt has left no trace: the writer can be replaced by another.
  detach(writer);
  EXPECT_NE(open(testing::file_options(path("a")), kExclusiveWriter), nullptr) << error_;
}

}  // namespace
}  // namespace cairn::file
