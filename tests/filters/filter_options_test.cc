// What filters have in common in the eyes of those who configure them: names, what may be reopened,
// and whose snapshots are shown.
#include <cerrno>

#include "filters/blkdebug/blkdebug.h"
#include "filters/blklogwrites/blklogwrites.h"
#include "filters/blkreplay.h"
#include "filters/blkverify.h"
#include "filters/copy_before_write.h"
#include "filters/quorum/quorum.h"
#include "filters/snapshot_access.h"
#include "tests/filters/filter_test.h"

namespace cairn::filters {
namespace {

using Driver = schema::BlockdevDriver;

class FilterOptions : public FilterTest {
 protected:
  void SetUp() override {
    for (const block::DriverInfo* driver :
         {&kBlkdebugDriver, &kBlklogwritesDriver, &kBlkreplayDriver, &kBlkverifyDriver,
          &kCopyBeforeWriteDriver, &kQuorumDriver, &kSnapshotAccessDriver}) {
      drivers_.add(*driver);
    }
    create_image("a.img", 4 * kCluster);
    world_.create("b.img", 4 * kCluster);
    ASSERT_EQ(add(file("f", "a.img")), "");
    ASSERT_EQ(add(qcow2("q", "f")), "");
    ASSERT_EQ(add(file("other", "b.img")), "");
  }
  static schema::BlockdevOptions blkdebug(std::string below) {
    schema::BlockdevOptionsBlkdebug branch;
    branch.image = to(std::move(below));
    return make(Driver::kBlkdebug, "x", std::move(branch));
  }
  static schema::BlockdevOptions with_rule(schema::BlkdebugInjectErrorOptions rule) {
    schema::BlockdevOptionsBlkdebug branch;
    branch.image = to("q");
    branch.inject_error.emplace().push_back(rule);
    return make(Driver::kBlkdebug, "x", std::move(branch));
  }
  static schema::BlockdevOptions blklogwrites(std::string below, std::string log) {
    schema::BlockdevOptionsBlklogwrites branch;
    branch.file = to(std::move(below));
    branch.log = to(std::move(log));
    return make(Driver::kBlklogwrites, "x", std::move(branch));
  }
  static schema::BlockdevOptions blkreplay(std::string below) {
    schema::BlockdevOptionsBlkreplay branch;
    branch.image = to(std::move(below));
    return make(Driver::kBlkreplay, "x", std::move(branch));
  }
  static schema::BlockdevOptions blkverify(std::string raw, std::string test) {
    schema::BlockdevOptionsBlkverify branch;
    branch.raw = to(std::move(raw));
    branch.test = to(std::move(test));
    return make(Driver::kBlkverify, "x", std::move(branch));
  }
  static schema::BlockdevOptions copy_before_write(std::string below, std::string target) {
    schema::BlockdevOptionsCbw branch;
    branch.file = to(std::move(below));
    branch.target = to(std::move(target));
    return make(Driver::kCopyBeforeWrite, "x", std::move(branch));
  }
  static schema::BlockdevOptions snapshot_access(std::string name, std::string below) {
    schema::BlockdevOptionsGenericFormat branch;
    branch.file = to(std::move(below));
    return make(Driver::kSnapshotAccess, std::move(name), std::move(branch));
  }
  static schema::BlockdevOptions quorum(const std::vector<std::string>& children) {
    schema::BlockdevOptionsQuorum branch;
    branch.vote_threshold = 1;
    for (const std::string& child : children) {
      branch.children.push_back(to(child));
    }
    return make(Driver::kQuorum, "x", std::move(branch));
  }
};

TEST_F(FilterOptions, ManyFiltersStayAsTheyWereOpened) {
  for (const schema::BlockdevOptions& options :
       {copy_before_write("q", "other"), snapshot_access("x", "q"), blklogwrites("q", "other"),
        blkverify("q", "other"), blkreplay("q"), quorum({"q", "other"})}) {
    const std::string driver(schema::to_string(options.driver));
    ASSERT_EQ(add(options), "") << driver;
    EXPECT_EQ(reopen(options),
              "Block format '" + driver + "' used by node 'x' does not support reopening files");
    EXPECT_EQ(remove("x"), "");
  }
}

TEST_F(FilterOptions, BlkdebugIsReopenedOnlyWithWhatItHas) {
  const schema::BlockdevOptions options = with_rule({.event = schema::BlkdebugEvent::kReadAio});
  ASSERT_EQ(add(options), "");
  EXPECT_EQ(reopen(options), "");
  EXPECT_EQ(reopen(blkdebug("q")),
            "Option 'inject-error.0.event' cannot be reset to its default value");
  EXPECT_EQ(reopen(with_rule({.event = schema::BlkdebugEvent::kWriteAio})),
            "Cannot change the option 'inject-error.0.event'");
  EXPECT_EQ(reopen(with_rule({.event = schema::BlkdebugEvent::kReadAio, .errno_ = 6})),
            "Cannot change the option 'inject-error.0.errno'");
  schema::BlockdevOptions other = options;
  auto& branch = std::get<schema::BlockdevOptionsBlkdebug>(other.branch);
  branch.image.value = schema::Box<schema::BlockdevOptions>(file("q", "b.img"));
  EXPECT_EQ(reopen(other), "Cannot change the option 'image.discard'");
  other = options;
  std::get<schema::BlockdevOptionsBlkdebug>(other.branch).set_state.emplace();
  EXPECT_EQ(reopen(other), "Cannot change the option 'set-state'");
}

TEST_F(FilterOptions, PreallocationMayBeChangedButNotForgotten) {
  ASSERT_EQ(add(preallocate("x", "other")), "");
  EXPECT_EQ(reopen(preallocate("x", "other", 4096)), "");
  EXPECT_EQ(reopen(preallocate("x", "other")),
            "Option 'prealloc-align' cannot be reset to its default value");
  EXPECT_EQ(reopen(preallocate("x", "other", 8192, 65536)), "");
  EXPECT_EQ(reopen(preallocate("x", "other", 8192)),
            "Option 'prealloc-size' cannot be reset to its default value");
}

TEST_F(FilterOptions, FiltersOfSnapshotsGoByTheNameOfWhatIsBelow) {
  ASSERT_EQ(add(copy_before_write("q", "other")), "");
  ASSERT_EQ(add(snapshot_access("then", "x")), "");
  EXPECT_EQ(graph_.find("x")->filename(), graph_.find("q")->filename());
  EXPECT_EQ(graph_.find("then")->filename(), graph_.find("q")->filename());
  ASSERT_EQ(add(raw("above", "then")), "");
  EXPECT_EQ(graph_.find("above")->filename(),
            "json:{\"driver\": \"raw\", \"file\": {\"driver\": \"snapshot-access\", \"file\": "
            "{\"driver\": \"copy-before-write\", \"file\": {\"driver\": \"qcow2\", \"file\": "
            "{\"driver\": \"file\", \"filename\": \"a.img\"}}, \"target\": {\"driver\": \"file\", "
            "\"filename\": \"b.img\"}}}}");
}

TEST_F(FilterOptions, OptionsOfALogArePartOfTheName) {
  schema::BlockdevOptions options = blklogwrites("q", "other");
  std::get<schema::BlockdevOptionsBlklogwrites>(options.branch).log_sector_size = 4096;
  ASSERT_EQ(add(options), "");
  EXPECT_EQ(graph_.find("x")->filename(),
            "json:{\"driver\": \"blklogwrites\", \"file\": {\"driver\": \"qcow2\", \"file\": "
            "{\"driver\": \"file\", \"filename\": \"a.img\"}}, \"log\": {\"driver\": \"file\", "
            "\"filename\": \"b.img\"}, \"log-sector-size\": 4096}");
}

TEST_F(FilterOptions, SnapshotsAreHandedOnByFiltersOfOneNode) {
  const auto snapshot = [this] {
    block::Edge& edge = attach("x");
    const bool listed = edge.snapshots().has_value();
    const auto made = run(edge.create_snapshot({.id = {}, .name = "s"}));
    const auto applied = run(edge.apply_snapshot("1"));
    const auto gone = run(edge.delete_snapshot("1"));
    EXPECT_EQ(made.has_value(), listed);
    EXPECT_EQ(gone.has_value(), listed);
    EXPECT_FALSE(applied.has_value()) << "the user did not ask for resizing";
    detach(edge);
    EXPECT_EQ(remove("x"), "");
    return listed;
  };
  ASSERT_EQ(add(blkdebug("q")), "");
  EXPECT_TRUE(snapshot());
  ASSERT_EQ(add(copy_on_read("x", "q")), "");
  EXPECT_TRUE(snapshot());
  ASSERT_EQ(add(copy_before_write("q", "other")), "");
  EXPECT_FALSE(snapshot());
  ASSERT_EQ(add(blklogwrites("q", "other")), "");
  EXPECT_FALSE(snapshot());
  ASSERT_EQ(add(blkverify("q", "other")), "");
  EXPECT_FALSE(snapshot());
}

// As the format of an image, or as what an image names as the format of its backing file.
TEST_F(FilterOptions, AFilterMayBeNamedLikeAFormat) {
  const auto open = [this](const std::string& driver) {
    auto node = run(graph_.open_filename("b.img", driver, {.read_only = true}));
    std::string text = node ? (*node)->filename() : node.error().message();
    if (node) {
      EXPECT_TRUE(run(graph_.release(std::move(*node))));
    }
    return text;
  };
  EXPECT_EQ(open("preallocate"),
            "json:{\"driver\": \"preallocate\", \"file\": {\"driver\": \"file\", "
            "\"filename\": \"b.img\"}}");
  EXPECT_EQ(open("snapshot-access"), "b.img");
  EXPECT_EQ(open("throttle"), "Parameter 'throttle-group' is missing");
  EXPECT_EQ(open("copy-before-write"), "Parameter 'target' is missing");
  EXPECT_EQ(open("copy-on-read"), "Block node is read-only");
  EXPECT_EQ(open("compress"), "Compression is not supported for underlying format: file");
  EXPECT_EQ(open("quorum"), "Parameter 'children' is missing");
}

TEST_F(FilterOptions, NoNodeIsItsOwnChild) {
  EXPECT_EQ(add(blkdebug("x")), "Making 'x' a image child of 'x' would create a cycle");
  EXPECT_EQ(add(copy_before_write("q", "x")),
            "Making 'x' a target child of 'x' would create a cycle");
  EXPECT_EQ(add(blklogwrites("q", "x")), "Making 'x' a log child of 'x' would create a cycle");
  EXPECT_EQ(add(quorum({"q", "x"})), "Making 'x' a children.1 child of 'x' would create a cycle");
  EXPECT_EQ(add(raw("x", "x")), "Cannot find device='x' nor node-name='x'");
  EXPECT_EQ(add(copy_on_read("x", "q", "x")), "Bottom node 'x' is a filter");
}

}  // namespace
}  // namespace cairn::filters
