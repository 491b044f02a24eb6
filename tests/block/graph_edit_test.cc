// Edits of the graph: as a whole or not at all.
#include "block/graph_edit.h"

#include <cerrno>

#include "io/task_group.h"
#include "tests/block/block_test.h"

namespace cairn::block {
namespace {

using ::testing::HasSubstr;

class GraphEditTest : public BlockTest {
 protected:
  // Makes a node that the monitor holds.
  std::shared_ptr<Node> add(schema::BlockdevOptions options, const std::string& name) {
    options.node_name = name;
    const auto added = run(graph_.add_monitor_node(options));
    EXPECT_TRUE(added.has_value()) << added.error().message();
    return graph_.find(name);
  }
  std::shared_ptr<Node> add_file(const std::string& name) {
    world_.add(name, testing::SparseBytes(64 * kUnit));
    return add(file_options(name), name);
  }
  std::shared_ptr<Node> add_format(const std::string& name, std::optional<std::string> below = {}) {
    world_.add(name + ".image");
    return add(format_options(name + ".image", std::move(below)), name);
  }
  Edge& use(const std::shared_ptr<Node>& node, Permissions permissions = kWriter) {
    auto edge = graph_.attach(node, "a test", permissions);
    EXPECT_TRUE(edge.has_value());
    edges_.push_back(std::move(*edge));
    return *edges_.back();
  }
  // Everything that an edit may change, as text.
  std::string state() const {
    std::string text;
    for (const Node* node : graph_.nodes()) {
      text += fmt::format("{} ro={}:", node->name(), node->read_only());
      for (const Edge* user : node->parents()) {
        text += fmt::format(" {}({})", static_cast<const void*>(user),
                            user->permissions().used.to_string());
      }
      for (const auto& edge : node->children()) {
        text +=
            fmt::format(" {}={}{}", edge->name(), edge->node().name(), edge->owned() ? "+" : "");
      }
      text += fmt::format(" {}\n", static_cast<const void*>(node->backing()));
    }
    return text;
  }
  void TearDown() override {
    for (auto& edge : edges_) {
      EXPECT_TRUE(run(graph_.detach(std::move(edge))));
    }
    edges_.clear();
    EXPECT_TRUE(run(graph_.close_all()));
    BlockTest::TearDown();
  }
};

TEST_F(GraphEditTest, AReplacedChildIsReadThroughTheSameEdge) {
  const auto one = add_file("one");
  const auto two = add_file("two");
  ASSERT_TRUE(write(use(one), 1, 0, kUnit));
  ASSERT_TRUE(write(use(two), 2, 0, kUnit));
  const auto top = add_format("top", "one");
  Edge& user = use(top, kReader);
  EXPECT_TRUE(holds(user, 1, 0, kUnit));
  Edge* const backing = top->backing();
  {
    const auto alone = run(graph_.alone());
    GraphEdit edit(graph_);
    ASSERT_TRUE(edit.replace_child(*backing, two));
    ASSERT_TRUE(edit.prepare());
    ASSERT_TRUE(run(edit.commit()));
  }
  EXPECT_EQ(top->backing(), backing);
  EXPECT_TRUE(holds(user, 2, 0, kUnit));
}

TEST_F(GraphEditTest, ChildrenComeAndGo) {
  const auto below = add_file("below");
  ASSERT_TRUE(write(use(below), 1, 0, kUnit));
  const auto top = add_format("top");
  Edge& user = use(top, kReader);
  const auto alone = run(graph_.alone());
  graph_.let_through(user);
  {
    GraphEdit edit(graph_);
    ASSERT_TRUE(edit.add_child(*top, "backing", below, ChildRole::kBacking));
    ASSERT_TRUE(edit.prepare());
    ASSERT_TRUE(run(edit.commit()));
  }
  graph_.let_through(user);
  EXPECT_TRUE(holds(user, 1, 0, kUnit));
  {
    GraphEdit edit(graph_);
    edit.remove_child(*top->backing());
    ASSERT_TRUE(edit.prepare());
    ASSERT_TRUE(run(edit.commit()));
  }
  graph_.let_through(user);
  EXPECT_EQ(top->child("backing"), nullptr);
  EXPECT_EQ(read(user, 0, kUnit), std::vector<std::byte>(kUnit));
}

TEST_F(GraphEditTest, WhatIsAbortedNeverWas) {
  const auto below = add_file("below");
  const auto other = add_file("other");
  const auto top = add_format("top", "below");
  use(top);
  use(below, kReader);
  const std::string before = state();
  for (const bool prepared : {false, true}) {
    const auto alone = run(graph_.alone());
    GraphEdit edit(graph_);
    ASSERT_TRUE(edit.replace_child(*top->backing(), other));
    edit.remove_child(*top->backing());
    ASSERT_TRUE(edit.add_child(*top, "backing", other, ChildRole::kBacking));
    NodeOptions options = other->options();
    options.read_only = true;
    edit.change_options(*other, options);
    EXPECT_NE(state(), before);
    if (prepared) {
      ASSERT_TRUE(edit.prepare());
      edit.abort();
      EXPECT_EQ(state(), before);
    }
  }
  EXPECT_EQ(state(), before);
}

TEST_F(GraphEditTest, NoNodeGetsAboveItself) {
  const auto below = add_format("below");
  const auto middle = add_format("middle", "below");
  const auto top = add_format("top", "middle");
  const std::string before = state();
  const auto alone = run(graph_.alone());
  GraphEdit edit(graph_);
  const auto itself = edit.add_child(*below, "backing", below, ChildRole::kBacking);
  ASSERT_FALSE(itself);
  EXPECT_THAT(itself.error().message(),
              HasSubstr("Making 'below' a backing child of 'below' would create a cycle"));
  EXPECT_FALSE(edit.add_child(*below, "backing", top, ChildRole::kBacking));
  EXPECT_FALSE(edit.replace_child(*middle->backing(), top));
  EXPECT_EQ(state(), before);
  EXPECT_TRUE(edit.replace_child(*top->backing(), below));
}

TEST_F(GraphEditTest, ANodeThatIsInsertedTakesOverAllUsers) {
  const auto below = add_file("below");
  Edge& writer = use(below);
  Edge& reader = use(below, kReader);
  ASSERT_TRUE(write(writer, 1, 0, 2 * kUnit));
  const auto overlay = add_format("overlay");
  {
    const auto alone = run(graph_.alone());
    GraphEdit edit(graph_);
    ASSERT_TRUE(edit.add_child(*overlay, "backing", below, ChildRole::kBacking));
    edit.insert_above(below, overlay);
    ASSERT_TRUE(edit.prepare());
    ASSERT_TRUE(run(edit.commit()));
  }
  EXPECT_EQ(&writer.node(), overlay.get());
  EXPECT_EQ(&reader.node(), overlay.get());
  EXPECT_EQ(&overlay->backing()->node(), below.get());
  ASSERT_TRUE(write(writer, 2, 0, kUnit));
  EXPECT_TRUE(holds(reader, 2, 0, kUnit));
  EXPECT_TRUE(holds(reader, 1, kUnit, kUnit));
  EXPECT_TRUE(holds(use(below, kReader), 1, 0, kUnit)) << "what is below does not change";
}

TEST_F(GraphEditTest, AConflictOfPermissionsUndoesEverything) {
  const auto file = add_file("file");
  const auto first = add_format("first");
  const auto second = add_format("second");
  use(first);
  use(second);
  const std::string before = state();
  const auto alone = run(graph_.alone());
  GraphEdit edit(graph_);
  ASSERT_TRUE(edit.replace_child(*first->child("file"), file));
  ASSERT_TRUE(edit.replace_child(*second->child("file"), file));
  const auto prepared = edit.prepare();
  ASSERT_FALSE(prepared);
  EXPECT_EQ(prepared.error().code(), EPERM);
  EXPECT_THAT(prepared.error().message(), HasSubstr("Permission conflict on node 'file'"));
  EXPECT_EQ(state(), before);
}

TEST_F(GraphEditTest, WritersKeepANodeFromBecomingReadOnly) {
  const auto file = add_file("file");
  use(file);
  const auto alone = run(graph_.alone());
  GraphEdit edit(graph_);
  NodeOptions options = file->options();
  options.read_only = true;
  edit.change_options(*file, options);
  const auto prepared = edit.prepare();
  ASSERT_FALSE(prepared);
  EXPECT_EQ(prepared.error().message(),
            "Read-only block node 'file' cannot support read-write users");
  EXPECT_FALSE(file->read_only());
}

TEST_F(GraphEditTest, WhatNobodyUsesAnyMoreIsClosedByTheCommitAlone) {
  const auto top = add_format("top");
  const auto other = add_file("other");
  Edge& file = *top->child("file");
  Node* const before = &file.node();
  const std::size_t nodes = graph_.nodes().size();
  const auto alone = run(graph_.alone());
  {
    GraphEdit edit(graph_);
    ASSERT_TRUE(edit.replace_child(file, other));
    ASSERT_TRUE(edit.prepare());
    EXPECT_EQ(graph_.nodes().size(), nodes);
    edit.abort();
    EXPECT_EQ(&file.node(), before);
    EXPECT_TRUE(file.owned());
  }
  GraphEdit edit(graph_);
  ASSERT_TRUE(edit.replace_child(file, other));
  EXPECT_FALSE(file.owned());
  ASSERT_TRUE(edit.prepare());
  ASSERT_TRUE(run(edit.commit()));
  EXPECT_EQ(graph_.nodes().size(), nodes - 1);
}

TEST_F(GraphEditTest, AUserThatGoesMeanwhileIsNotBroughtBack) {
  const auto below = add_file("below");
  use(below);
  use(below, kReader);
  const auto overlay = add_format("overlay");
  const auto alone = run(graph_.alone());
  GraphEdit edit(graph_);
  ASSERT_TRUE(edit.add_child(*overlay, "backing", below, ChildRole::kBacking));
  edit.insert_above(below, overlay);
  ASSERT_TRUE(edit.prepare());
  Edge* const stays = edges_[1].get();
  ASSERT_TRUE(run(graph_.detach(std::move(edges_[0]))));
  edges_.erase(edges_.begin());
  edit.abort();
  EXPECT_EQ(&stays->node(), below.get());
  EXPECT_EQ(below->parents(), std::vector<Edge*>{stays});
  EXPECT_TRUE(overlay->parents().empty());
}

TEST_F(GraphEditTest, AHeldNodeOutlastsItsUsers) {
  world_.add("disk", testing::SparseBytes(kUnit));
  auto node = run(graph_.open(file_options("disk")));
  ASSERT_TRUE(node);
  auto hold = Graph::hold(*node);
  auto user = graph_.attach(*node, "a test", kReader);
  ASSERT_TRUE(user);
  ASSERT_TRUE(run(graph_.detach(std::move(*user))));
  EXPECT_EQ(graph_.nodes().size(), 1U);
  node->reset();
  ASSERT_TRUE(run(graph_.detach(std::move(hold))));
  EXPECT_TRUE(graph_.nodes().empty());
}

io::Task<void> write_and_tell(Edge& edge, std::vector<std::byte> data, bool& done) {
  const Result<void> result = co_await edge.write(0, data.data(), data.size());
  EXPECT_TRUE(result.has_value());
  done = true;
}

TEST_F(GraphEditTest, ARequestThatWaitsForAnEditGoesWhereTheEdgePointsThen) {
  const auto below = add_file("below");
  Edge& writer = use(below);
  const auto overlay = add_format("overlay");
  bool done = false;
  io::TaskGroup group;
  {
    const auto alone = run(graph_.alone());
    group.spawn(write_and_tell(writer, pattern(1, 0, kUnit), done));
    GraphEdit edit(graph_);
    ASSERT_TRUE(edit.add_child(*overlay, "backing", below, ChildRole::kBacking));
    edit.insert_above(below, overlay);
    ASSERT_TRUE(edit.prepare());
    ASSERT_TRUE(run(edit.commit()));
    EXPECT_FALSE(done);
  }
  run(group.join());
  EXPECT_TRUE(done);
  EXPECT_EQ(read(use(below, kReader), 0, kUnit), std::vector<std::byte>(kUnit));
  EXPECT_TRUE(holds(writer, 1, 0, kUnit));
}

}  // namespace
}  // namespace cairn::block
