// Nodes, permissions and transactions: all or nothing, whatever fails on the way.
#include <array>
#include <cerrno>

#include "io/task_group.h"
#include "io/timer.h"
#include "tests/block/block_test.h"

namespace cairn::block {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

class GraphTest : public BlockTest {
 protected:
  Result<std::shared_ptr<Node>> open(const schema::BlockdevOptions& options, OpenFlags flags = {}) {
    return run(graph_.open(options, flags));
  }
  // The permissions of every edge, to be compared before and after.
  std::map<const Edge*, Permissions> permissions() const {
    std::map<const Edge*, Permissions> all;
    for (const Node* node : graph_.nodes()) {
      for (const Edge* edge : node->parents()) {
        all[edge] = edge->permissions();
      }
    }
    return all;
  }
};

TEST_F(GraphTest, AnUnheldNodeGoesAwayWithItsChildren) {
  world_.add("image");
  auto node = open(format_options("image"));
  ASSERT_TRUE(node.has_value());
  EXPECT_EQ(graph_.nodes().size(), 2U);
  EXPECT_TRUE(run(graph_.release(std::move(*node))));
  EXPECT_THAT(graph_.nodes(), IsEmpty());
}

TEST_F(GraphTest, AFailedOpenLeavesNothingBehind) {
  EXPECT_EQ(open(file_options("absent")).error().code(), ENOENT);
  EXPECT_FALSE(open(format_options("absent")));
  world_.add("image");
  EXPECT_FALSE(open(format_options("image", "no-such-node")));
  EXPECT_THAT(graph_.nodes(), IsEmpty());
}

TEST_F(GraphTest, NamesAreCheckedAndUnique) {
  world_.add("disk", testing::SparseBytes(512));
  auto options = file_options("disk");
  for (const char* name : {"", "1a", "a b", "#block7", "a234567890123456789012345678901x"}) {
    options.node_name = name;
    EXPECT_FALSE(open(options)) << name;
  }
  options.node_name = "a";
  ASSERT_TRUE(run(graph_.add_monitor_node(options)));
  EXPECT_THAT(open(options).error().message(), HasSubstr("Duplicate nodes with node-name='a'"));
  EXPECT_NE(graph_.find("a"), nullptr);
  EXPECT_TRUE(run(graph_.remove_monitor_node("a")));
  EXPECT_EQ(graph_.find("a"), nullptr);
}

TEST_F(GraphTest, AFileComesBeforeItsImageInPlaceAndInErrors) {
  auto options = format_options("absent");
  options.node_name = "a b";
  EXPECT_EQ(open(options).error().code(), ENOENT) << "of the file";
  world_.add("image");
  options = format_options("image");
  options.node_name = "a b";
  EXPECT_THAT(open(options).error().message(), HasSubstr("Invalid node-name"));
  options.force_share = true;
  EXPECT_THAT(open(options).error().message(), HasSubstr("force-share=on can only be used"));
  EXPECT_THAT(graph_.nodes(), IsEmpty());
  options = format_options("image");
  options.node_name = "a";
  auto node = open(options);
  ASSERT_TRUE(node.has_value());
  ASSERT_EQ(graph_.nodes().size(), 2U);
  EXPECT_EQ(graph_.nodes().back(), node->get());
  EXPECT_TRUE(run(graph_.release(std::move(*node))));
}

TEST_F(GraphTest, AMonitorNodeInUseIsNotRemoved) {
  world_.add("disk", testing::SparseBytes(512));
  auto options = file_options("disk");
  options.node_name = "a";
  ASSERT_TRUE(run(graph_.add_monitor_node(options)));
  auto edge = graph_.attach(graph_.find("a"), "export 'x'", kReader);
  ASSERT_TRUE(edge.has_value());
  EXPECT_EQ(run(graph_.remove_monitor_node("a")).error().code(), EBUSY);
  ASSERT_TRUE(run(graph_.detach(std::move(*edge))));
  EXPECT_NE(graph_.find("a"), nullptr) << "the monitor still holds it";
  EXPECT_TRUE(run(graph_.remove_monitor_node("a")));
  EXPECT_EQ(run(graph_.remove_monitor_node("a")).error().code(), ENOENT);
}

TEST_F(GraphTest, ConflictsAreRefusedAndChangeNothing) {
  world_.add("disk", testing::SparseBytes(512));
  auto options = file_options("disk");
  options.node_name = "d";
  ASSERT_TRUE(run(graph_.add_monitor_node(options)));
  const Permissions exclusive{.used = PermissionSet::kConsistentRead | PermissionSet::kWrite,
                              .shared = PermissionSet::kConsistentRead};
  auto first = graph_.attach(graph_.find("d"), "export 'one'", exclusive);
  ASSERT_TRUE(first.has_value());
  const auto before = permissions();
  auto second = graph_.attach(graph_.find("d"), "export 'two'", kWriter);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code(), EPERM);
  EXPECT_THAT(second.error().message(), HasSubstr("export 'one'"));
  EXPECT_THAT(second.error().message(), HasSubstr("write"));
  EXPECT_EQ(permissions(), before);
  auto reader = graph_.attach(graph_.find("d"), "export 'two'", kReader);
  ASSERT_TRUE(reader.has_value());
  EXPECT_FALSE(graph_.set_permissions(**reader, kWriter));
  EXPECT_EQ((*reader)->permissions(), kReader);
  ASSERT_TRUE(run(graph_.detach(std::move(*first))));
  EXPECT_TRUE(graph_.set_permissions(**reader, kWriter));
  ASSERT_TRUE(run(graph_.detach(std::move(*reader))));
  ASSERT_TRUE(run(graph_.close_all()));
}

TEST_F(GraphTest, TwoWritingFormatsCanNotShareAFile) {
  world_.add("image");
  auto options = file_options("image");
  options.node_name = "f";
  ASSERT_TRUE(run(graph_.add_monitor_node(options)));
  schema::BlockdevOptionsQcow2 branch;
  branch.file.value = std::string("f");
  schema::BlockdevOptions format;
  format.driver = schema::BlockdevDriver::kQcow2;
  format.branch = branch;
  auto first = open(format);
  ASSERT_TRUE(first.has_value());
  auto first_edge = graph_.attach(*first, "one", kWriter);
  ASSERT_TRUE(first_edge.has_value());
  const auto before = permissions();
  const std::size_t nodes = graph_.nodes().size();
  auto second = open(format);
  EXPECT_FALSE(second.has_value());
  EXPECT_EQ(permissions(), before);
  EXPECT_EQ(graph_.nodes().size(), nodes);
  ASSERT_TRUE(run(graph_.detach(std::move(*first_edge))));
  ASSERT_TRUE(run(graph_.close_all()));
}

TEST_F(GraphTest, AReadOnlyNodeRefusesWriters) {
  world_.add("disk", testing::SparseBytes(512));
  auto options = file_options("disk");
  options.read_only = true;
  auto node = open(options);
  ASSERT_TRUE(node.has_value());
  EXPECT_FALSE(graph_.attach(*node, "a test", kWriter));
  EXPECT_TRUE(run(graph_.release(*node)));
}

// A leaf that agrees to permissions, or does not, and remembers what it was told.
class ReservingDriver final : public RequestDriver {
 public:
  struct Book {
    int prepared = 0;
    int committed = 0;
    int aborted = 0;
    int refuse_at = 0;  // the how manieth prepare() fails; 0: none
    [[nodiscard]] bool balanced() const { return prepared == committed + aborted; }
  };
  static Book& book() {
    static Book book;
    return book;
  }
  static const DriverInfo& driver();

  [[nodiscard]] uint64_t length() const override { return 4096; }
  [[nodiscard]] io::Task<Result<void>> read(uint64_t /*offset*/, io::IoVector data) override {
    data.fill(std::byte{0});
    co_return Result<void>{};
  }
  [[nodiscard]] Result<void> prepare_permissions(Permissions /*permissions*/) override {
    if (--book().refuse_at == 0) {
      return fail(EAGAIN, "the file is locked");
    }
    ++book().prepared;
    return {};
  }
  void commit_permissions() override { ++book().committed; }
  void abort_permissions() override { ++book().aborted; }
};

io::Task<Result<std::unique_ptr<Driver>>> open_reserving(
    OpenContext& /*context*/, const schema::BlockdevOptions& /*options*/) {
  co_return std::make_unique<ReservingDriver>();
}

const DriverInfo& ReservingDriver::driver() {
  static constexpr DriverInfo kDriver{
      .name = "null-co", .kind = DriverInfo::Kind::kProtocol, .open = open_reserving};
  return kDriver;
}

class TransactionTest : public GraphTest {
 protected:
  TransactionTest() {
    drivers_.add(ReservingDriver::driver());
    ReservingDriver::book() = {};
  }
};

// A chain with three leaves below, a change that concerns them all, and every possible point of
// failure. A fourth leaf beside them is not asked.
TEST_F(TransactionTest, AFailureAtAnyLeafUndoesTheWholeChange) {
  schema::BlockdevOptions options;
  options.driver = schema::BlockdevDriver::kNullCo;
  options.branch = schema::BlockdevOptionsNull{};
  for (const char* name : {"a", "b", "c", "beside"}) {
    options.node_name = name;
    ASSERT_TRUE(run(graph_.add_monitor_node(options)));
  }
  options.driver = schema::BlockdevDriver::kQcow2;
  for (const auto& [name, file, backing] :
       {std::array{"base", "b", "c"}, std::array{"top", "a", "base"}}) {
    options.node_name = name;
    schema::BlockdevOptionsQcow2 branch;
    branch.file.value = std::string(file);
    branch.backing.emplace().value = std::string(backing);
    options.branch = branch;
    ASSERT_TRUE(run(graph_.add_monitor_node(options)));
  }
  auto edge = graph_.attach(graph_.find("top"), "a test", kReader);
  ASSERT_TRUE(edge.has_value());
  int refused = 0;
  for (int at = 1; at <= 4; ++at) {
    const auto before = permissions();
    ReservingDriver::book() = {.refuse_at = at};
    const bool changed = graph_.set_permissions(**edge, kWriter).has_value();
    EXPECT_TRUE(ReservingDriver::book().balanced()) << at;
    if (!changed) {
      ++refused;
      EXPECT_EQ(ReservingDriver::book().committed, 0) << at;
      EXPECT_EQ(permissions(), before) << at;
    }
  }
  EXPECT_EQ(refused, 3);
  EXPECT_EQ((*edge)->permissions(), kWriter);
  ReservingDriver::book().refuse_at = 0;
  ASSERT_TRUE(run(graph_.detach(std::move(*edge))));
  ASSERT_TRUE(run(graph_.close_all()));
}

TEST_F(TransactionTest, AnOpenThatALeafRefusesLeavesNothingBehind) {
  schema::BlockdevOptions leaf;
  leaf.driver = schema::BlockdevDriver::kNullCo;
  leaf.branch = schema::BlockdevOptionsNull{};
  schema::BlockdevOptionsQcow2 branch;
  branch.file.value = schema::Box<schema::BlockdevOptions>(leaf);
  schema::BlockdevOptions format;
  format.driver = schema::BlockdevDriver::kQcow2;
  format.branch = branch;
  int refused = 0;
  for (int at = 1; at <= 5; ++at) {
    ReservingDriver::book() = {.refuse_at = at};
    auto node = open(format);
    EXPECT_TRUE(ReservingDriver::book().balanced()) << at;
    ReservingDriver::book().refuse_at = 0;
    if (node) {
      ASSERT_TRUE(run(graph_.release(std::move(*node))));
    } else {
      ++refused;
    }
    ASSERT_THAT(graph_.nodes(), IsEmpty());
  }
  EXPECT_GE(refused, 2);
}

io::Task<void> write_and_note(Edge& edge, std::vector<std::byte> data, bool& done) {
  const Result<void> result = co_await edge.write(0, data.data(), data.size());
  EXPECT_TRUE(result.has_value());
  done = true;
}

TEST_F(GraphTest, ADrainWaitsForRequestsAndKeepsNewOnesOut) {
  Edge& edge = attach_file("disk", 4096);
  world_.set_delays(std::chrono::milliseconds(1));
  bool first = false;
  bool second = false;
  io::TaskGroup group;
  group.spawn(write_and_note(edge, pattern(1, 0, 512), first));
  run(graph_.drain_begin());
  EXPECT_TRUE(first);
  EXPECT_EQ(edge.node().requests_in_flight(), 0U);
  group.spawn(write_and_note(edge, pattern(2, 0, 512), second));
  run(graph_.drain_begin());  // nests
  graph_.drain_end();
  io::Task<void> pause = [](io::Duration time) -> io::Task<void> {
    co_await io::sleep_for(time);
  }(std::chrono::seconds(1));
  run(std::move(pause));
  EXPECT_FALSE(second);
  graph_.drain_end();
  run(group.join());
  EXPECT_TRUE(second);
}

io::Task<void> status_and_note(Edge& edge, bool& done) {
  const auto status = co_await edge.status(0, 512);
  EXPECT_TRUE(status.has_value());
  done = true;
}

TEST_F(GraphTest, ADrainKeepsStatusOut) {
  Edge& edge = attach_format();
  run(graph_.drain_begin());
  bool done = false;
  io::TaskGroup group;
  group.spawn(status_and_note(edge, done));
  EXPECT_FALSE(done) << "metadata may be changing";
  graph_.drain_end();
  run(group.join());
  EXPECT_TRUE(done);
}

TEST_F(GraphTest, ClosingMakesEverythingDurable) {
  world_.add("image");
  auto node = open(format_options("image"));
  ASSERT_TRUE(node.has_value());
  auto edge = graph_.attach(*node, "a test", kWriter);
  ASSERT_TRUE(edge.has_value());
  ASSERT_TRUE(write(**edge, 1, 0, kUnit));
  EXPECT_NE(file("image").disk.unflushed(), 0U);
  node->reset();
  ASSERT_TRUE(run(graph_.detach(std::move(*edge))));
  EXPECT_EQ(file("image").disk.unflushed(), 0U);
}

TEST_F(GraphTest, CloseReportsAFailedFinalWriteOutAndGoesOn) {
  for (const char* name : {"one", "two"}) {
    world_.add(name);
    auto options = format_options(name);
    options.node_name = name;
    ASSERT_TRUE(run(graph_.add_monitor_node(options)));
  }
  ClusterFormat::settings().fail_close = ENOSPC;
  const Result<void> result = run(graph_.close_all());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ENOSPC);
  EXPECT_THAT(graph_.nodes(), IsEmpty());
}

}  // namespace
}  // namespace cairn::block
