// Replication nodes: what they ask for, and what they show while nobody has started them.
#include "filters/replication.h"

#include <cerrno>

#include "tests/filters/filter_test.h"

namespace cairn::filters {
namespace {

class ReplicationTest : public FilterTest {
 protected:
  void SetUp() override {
    drivers_.add(kReplicationDriver);
    create_image("a.img", 4 * kCluster);
    ASSERT_EQ(add(file("f", "a.img")), "");
    ASSERT_EQ(add(qcow2("q", "f")), "");
    block::Edge& edge = attach("q");
    ASSERT_EQ(write(edge, 1, 0, kCluster), "");
    detach(edge);
  }
  static schema::BlockdevOptions replication(schema::ReplicationMode mode,
                                             std::optional<std::string> top,
                                             std::string below = "q") {
    schema::BlockdevOptionsReplication branch;
    branch.file = to(std::move(below));
    branch.mode = mode;
    branch.top_id = std::move(top);
    return make(schema::BlockdevDriver::kReplication, "r", std::move(branch));
  }
  static int code_of(const Result<void>& result) { return result ? 0 : result.error().code(); }

  static constexpr auto kPrimary = schema::ReplicationMode::kPrimary;
  static constexpr auto kSecondary = schema::ReplicationMode::kSecondary;
};

TEST_F(ReplicationTest, OnlyTheSecondarySideHasATop) {
  EXPECT_EQ(add(replication(kPrimary, "t")), "The primary side does not support option top-id");
  EXPECT_EQ(add(replication(kSecondary, {})), "Missing the option top-id");
  EXPECT_EQ(add(replication(kSecondary, {}, "nobody")),
            "Cannot find device='nobody' nor node-name='nobody'");
  EXPECT_EQ(add(replication(kSecondary, "any name")), "");
  EXPECT_EQ(graph_.find("r")->filename(),
            "json:{\"driver\": \"replication\", \"file\": {\"driver\": \"qcow2\", \"file\": "
            "{\"driver\": \"file\", \"filename\": \"a.img\"}}, \"mode\": \"secondary\", "
            "\"top-id\": \"any name\"}");
}

TEST_F(ReplicationTest, NothingIsReadOrWrittenBeforeItIsStarted) {
  for (const bool primary : {true, false}) {
    ASSERT_EQ(add(primary ? replication(kPrimary, {}) : replication(kSecondary, "t")), "");
    block::Edge& edge = attach("r", kOwner);
    std::vector<std::byte> data(512);
    const auto read = run(edge.read(0, data.data(), data.size()));
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code(), EIO);
    EXPECT_EQ(read.error().message(), "Replication of node 'r' was not started");
    EXPECT_EQ(code_of(run(edge.write(0, data.data(), data.size()))), EIO);
    EXPECT_EQ(code_of(run(edge.write(0, data.data(), 512, {.fua = true}))), EIO);
    EXPECT_EQ(code_of(run(edge.write(0, data.data(), 512, {.compressed = true}))), ENOTSUP);
    EXPECT_EQ(code_of(run(edge.write_zeroes(0, kCluster))), EIO);
    EXPECT_EQ(code_of(run(edge.write_zeroes(0, kCluster, {.may_unmap = true}))), EIO);
    EXPECT_EQ(code_of(run(edge.discard(0, kCluster))), EIO);
    EXPECT_EQ(code_of(run(edge.resize(8 * kCluster))), EIO);
    EXPECT_EQ(code_of(run(edge.flush())), 0);
    EXPECT_EQ(edge.length(), 4 * kCluster);
    detach(edge);
    EXPECT_EQ(remove("r"), "");
  }
  block::Edge& edge = attach("q");
  EXPECT_EQ(check(edge, 1, 0, kCluster), "");
}

TEST_F(ReplicationTest, ShowsWhereTheImageHasDataAndItsSnapshots) {
  ASSERT_EQ(add(replication(kPrimary, {})), "");
  block::Edge& edge = attach("r");
  EXPECT_EQ(clusters(edge), "d...");
  EXPECT_TRUE(run(edge.create_snapshot({.id = {}, .name = "s"})));
  const auto snapshots = edge.snapshots();
  ASSERT_TRUE(snapshots);
  ASSERT_EQ(snapshots->size(), 1U);
  EXPECT_EQ(snapshots->front().name, "s");
  EXPECT_TRUE(run(edge.delete_snapshot("1")));
}

TEST_F(ReplicationTest, WantsToWriteAndSharesAllButTheLength) {
  using P = block::PermissionSet;
  ASSERT_EQ(add(replication(kPrimary, {})), "");
  const block::Permissions taken = graph_.find("r")->child("file")->permissions();
  EXPECT_EQ(taken.used, P::kConsistentRead | P::kWrite);
  EXPECT_EQ(taken.shared, P::kConsistentRead | P::kWrite | P::kWriteUnchanged);
  ASSERT_EQ(remove("r"), "");
  schema::BlockdevOptions only_read = replication(kPrimary, {});
  only_read.read_only = true;
  ASSERT_EQ(add(only_read), "");
  EXPECT_EQ(graph_.find("r")->child("file")->permissions().used, P(P::kConsistentRead));
}

TEST_F(ReplicationTest, NeedsANodeThatCanBeWrittenTo) {
  schema::BlockdevOptions read_only = file("g", "a.img");
  read_only.read_only = true;
  ASSERT_EQ(add(read_only), "");
  EXPECT_EQ(add(replication(kPrimary, {}, "g")), "Block node is read-only");
}

TEST_F(ReplicationTest, StaysAsItWasOpened) {
  ASSERT_EQ(add(replication(kPrimary, {})), "");
  EXPECT_EQ(reopen(replication(kPrimary, {})),
            "Block format 'replication' used by node 'r' does not support reopening files");
}

}  // namespace
}  // namespace cairn::filters
