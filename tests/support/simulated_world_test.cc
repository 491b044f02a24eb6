// Faults, power cuts and virtual time of simulated files, seen through the graph.
#include "tests/support/simulated_world.h"

#include <cerrno>

#include <gtest/gtest.h>

#include "io/task_group.h"
#include "tests/block/block_test.h"

namespace cairn::testing {
namespace {

class SimulatedWorldTest : public block::BlockTest {};

TEST_F(SimulatedWorldTest, FailsTheNthRequestOfAKind) {
  block::Edge& edge = attach_file("disk", 4096);
  world_.add_fault({.kind = IoKind::kWrite, .after = 2, .times = 2, .error = ENOSPC});
  std::vector<int> errors;
  for (int i = 0; i < 6; ++i) {
    const auto result = write(edge, 1, 0, 512);
    errors.push_back(result ? 0 : result.error().code());
  }
  EXPECT_EQ(errors, (std::vector<int>{0, 0, ENOSPC, ENOSPC, 0, 0}));
  EXPECT_EQ(world_.faults(), 2U);
}

TEST_F(SimulatedWorldTest, FailsRequestsThatTouchARange) {
  block::Edge& edge = attach_file("disk", 8192);
  world_.add_fault({.offset = 4096, .length = 512, .times = 100});
  EXPECT_TRUE(write(edge, 1, 0, 4096));
  EXPECT_FALSE(write(edge, 1, 4000, 200));
  EXPECT_TRUE(write(edge, 1, 4608, 512));
}

TEST_F(SimulatedWorldTest, AfterAPowerCutEverythingFailsAndFlushedDataIsKept) {
  block::Edge& edge = attach_file("disk", 4096);
  ASSERT_TRUE(write(edge, 1, 0, 512));
  ASSERT_TRUE(run(edge.flush()));
  ASSERT_TRUE(write(edge, 2, 512, 512));
  world_.cut_power_at(1);
  EXPECT_FALSE(write(edge, 3, 1024, 512));
  EXPECT_FALSE(world_.powered());
  EXPECT_FALSE(write(edge, 3, 1024, 512));
  EXPECT_EQ(world_.submitted(), 4U) << "the last write came after the cut";
  world_.restore_power();
  EXPECT_TRUE(holds(edge, 1, 0, 512));
  EXPECT_TRUE(holds(edge, 2, 512, 512) || holds(edge, kZeroes, 512, 512));
}

TEST_F(SimulatedWorldTest, ADiskThatLiesAboutFlushesLosesFlushedData) {
  block::Edge& edge = attach_file("disk", 4096, {.keeps_flush = false});
  ASSERT_TRUE(write(edge, 1, 0, 512));
  ASSERT_TRUE(run(edge.flush()));
  EXPECT_EQ(world_.find("disk")->disk.unflushed(), 1U);
  EXPECT_EQ(world_.find("disk")->disk.durable().read(0, 512), std::vector<std::byte>(512));
}

io::Task<void> write_in_order(block::Edge& edge, int number, std::vector<int>& order) {
  std::vector<std::byte> data(512);
  const auto result = co_await edge.write(0, data.data(), data.size());
  EXPECT_TRUE(result.has_value());
  order.push_back(number);
}

TEST_F(SimulatedWorldTest, DelayedRequestsOvertakeEachOtherInVirtualTime) {
  block::Edge& edge = attach_file("disk", 4096);
  world_.set_delays(std::chrono::hours(1));
  std::vector<int> order;
  io::TaskGroup group;
  for (int i = 0; i < 20; ++i) {
    group.spawn(write_in_order(edge, i, order));
  }
  run(group.join());
  EXPECT_EQ(order.size(), 20U);
  EXPECT_FALSE(std::ranges::is_sorted(order));
}

TEST(SimulatedWorldSeedTest, EqualSeedsGiveEqualFingerprints) {
  const auto play = [](uint64_t seed) {
    io::Reactor reactor(std::make_unique<SimBackend>(seed));
    SimulatedWorld world(seed);
    block::DriverTable drivers;
    drivers.add(SimulatedWorld::driver());
    block::Graph graph(drivers);
    world.add("disk", SparseBytes(4096));
    world.set_delays(std::chrono::milliseconds(1));
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kFile;
    schema::BlockdevOptionsFile branch;
    branch.filename = "disk";
    options.branch = branch;
    auto node = reactor.block_on(graph.open(options));
    auto edge = graph.attach(
        *node, "", {.used = block::PermissionSet::kWrite, .shared = block::PermissionSet::all()});
    std::vector<int> order;
    io::TaskGroup group;
    for (int i = 0; i < 10; ++i) {
      group.spawn(write_in_order(**edge, i, order));
    }
    reactor.block_on(group.join());
    node = std::shared_ptr<block::Node>();
    EXPECT_TRUE(reactor.block_on(graph.detach(std::move(*edge))).has_value());
    for (const int number : order) {
      world.note("order", static_cast<uint64_t>(number));
    }
    return world.fingerprint();
  };
  EXPECT_EQ(play(5), play(5));
  EXPECT_NE(play(5), play(6));
}

using SimBackendDeathTest = ::testing::Test;

TEST_F(SimBackendDeathTest, ADeadlockNamesTheSeed) {
  EXPECT_DEATH(
      {
        SimBackend backend(42);
        backend.wait(std::nullopt);
      },
      "seed 42: a deadlock");
}

}  // namespace
}  // namespace cairn::testing
