// Quorum nodes on simulated files: votes, and what is told of them.
#include "filters/quorum/quorum_driver.h"

#include <cerrno>

#include <gtest/gtest.h>

#include "filters/quorum/quorum.h"
#include "tests/block/block_test.h"

namespace cairn::filters::quorum {
namespace {

class QuorumTest : public block::BlockTest {
 protected:
  static constexpr uint64_t kSize = 64 << 10;

  QuorumTest() {
    drivers_.add(kQuorumDriver);
    graph_.set_on_vote([this](const block::VoteReport& report) {
      told_.push_back(fmt::format("{}{} {} {}+{} {}", report.about_child ? "" : "failure of ",
                                  report.node_name, static_cast<int>(report.request),
                                  report.first_sector, report.sectors, report.error));
    });
  }

  schema::BlockdevOptions node(int children, int threshold) {
    schema::BlockdevOptionsQuorum branch = options_;
    branch.vote_threshold = threshold;
    for (int i = 0; i < children; ++i) {
      std::string name(1, static_cast<char>('a' + i));
      world_.add(name, testing::SparseBytes(kSize));
      schema::BlockdevOptions file = file_options(name);
      file.node_name = name;
      branch.children.emplace_back().value = schema::Box<schema::BlockdevOptions>(file);
    }
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kQuorum;
    options.node_name = "q";
    options.branch = branch;
    return options;
  }
  block::Edge& attach_quorum(int children, int threshold) {
    return attach(node(children, threshold));
  }
  // Changes a file behind everybody's back.
  void spoil(const std::string& name, std::byte value) {
    testing::SimulatedDisk& disk = file(name).disk;
    const std::vector<std::byte> data(512, value);
    const auto change = disk.begin_write(0, data);
    disk.apply(change);
    disk.complete(change, true);
  }
  std::byte first_byte(const std::string& name) {
    std::byte byte{};
    file(name).disk.read(0, std::span(&byte, 1));
    return byte;
  }
  using Told = std::vector<std::string>;

  schema::BlockdevOptionsQuorum options_;
  Told told_;
};

TEST_F(QuorumTest, WritesToAllAndReadsWhatTheyAgreeOn) {
  block::Edge& edge = attach_quorum(3, 2);
  EXPECT_EQ(edge.length(), kSize);
  EXPECT_TRUE(write(edge, 1, 1000, 3000));
  EXPECT_TRUE(holds(edge, 1, 1000, 3000));
  EXPECT_TRUE(run(edge.write_zeroes(1000, 100)));
  EXPECT_TRUE(holds(edge, testing::kZeroes, 1000, 100));
  EXPECT_TRUE(run(edge.flush()));
  EXPECT_EQ(told_, Told{});
}

TEST_F(QuorumTest, TellsOfAChildThatDiffers) {
  block::Edge& edge = attach_quorum(3, 2);
  spoil("c", std::byte{7});
  EXPECT_TRUE(holds(edge, testing::kZeroes, 0, 512));
  EXPECT_EQ(told_, Told{"c 0 0+1 "});
  EXPECT_EQ(first_byte("c"), std::byte{7});
}

TEST_F(QuorumTest, MendsAChildThatDiffersWhenItIsAskedTo) {
  options_.rewrite_corrupted = true;
  block::Edge& edge = attach_quorum(3, 2);
  spoil("a", std::byte{7});
  EXPECT_TRUE(holds(edge, testing::kZeroes, 0, 512));
  EXPECT_EQ(first_byte("a"), std::byte{0});
  EXPECT_TRUE(holds(edge, testing::kZeroes, 0, 512));
  EXPECT_EQ(told_, Told{"a 0 0+1 "});
}

TEST_F(QuorumTest, FailsWhenTooFewAgree) {
  block::Edge& edge = attach_quorum(3, 2);
  spoil("a", std::byte{1});
  spoil("b", std::byte{2});
  std::vector<std::byte> data(1024);
  const Result<void> read = run(edge.read(0, data.data(), data.size()));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), EIO);
  EXPECT_EQ(told_, Told{"failure of q 0 0+2 "});
}

TEST_F(QuorumTest, SurvivesAChildThatFailsAndTellsOfIt) {
  block::Edge& edge = attach_quorum(3, 2);
  EXPECT_TRUE(write(edge, 1, 0, 1024));
  world_.add_fault({.file = "b", .error = ENOSPC});
  EXPECT_TRUE(write(edge, 2, 100, 1000));
  EXPECT_EQ(told_, Told{"b 1 0+3 No space left on device"});
  EXPECT_TRUE(holds(edge, 2, 100, 1000));
}

TEST_F(QuorumTest, ReadsFromTheFirstThatDoesNotFailWhenThatIsEnough) {
  options_.read_pattern = schema::QuorumReadPattern::kFifo;
  block::Edge& edge = attach_quorum(2, 1);
  spoil("b", std::byte{7});
  EXPECT_TRUE(holds(edge, testing::kZeroes, 0, 512));
  EXPECT_EQ(told_, Told{});
}

TEST_F(QuorumTest, KeepsAsManyChildrenAsHaveToAgree) {
  block::Edge& edge = attach_quorum(3, 2);
  const block::Driver& driver = edge.node().driver();
  EXPECT_TRUE(driver.may_remove_child(*edge.node().child("children.0")));
  EXPECT_EQ(*driver.name_new_child(), "children.3");
  block::Edge& small = attach([&] {
    schema::BlockdevOptions options = node(2, 2);
    options.node_name = "small";
    for (auto& child : std::get<schema::BlockdevOptionsQuorum>(options.branch).children) {
      (*std::get<schema::Box<schema::BlockdevOptions>>(child.value)).node_name.reset();
    }
    return options;
  }());
  EXPECT_EQ(
      small.node().driver().may_remove_child(*small.node().child("children.0")).error().message(),
      "The number of children cannot be lower than the vote threshold 2");
}

}  // namespace
}  // namespace cairn::filters::quorum
