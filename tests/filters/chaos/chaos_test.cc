// chaos nodes on simulated files.
#include "filters/chaos/chaos.h"

#include <cerrno>

#include <gtest/gtest.h>

#include "tests/block/block_test.h"
#include "tests/sim/content_model.h"
#include "tests/support/random.h"

namespace cairn::filters {
namespace {

class ChaosTest : public block::BlockTest {
 protected:
  static constexpr uint64_t kSize = 256 << 10;

  ChaosTest() {
    drivers_.add(kChaosDriver);
    world_.add("disk", testing::SparseBytes(kSize));
    options_.file.value = schema::Box<schema::BlockdevOptions>(file_options("disk"));
  }
  schema::BlockdevOptions node() const {
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kChaos;
    options.node_name = "chaos";
    options.branch = options_;
    return options;
  }
  block::Edge& attach_chaos() { return attach(node(), kWriter, {.discard_unmap = true}); }
  std::byte on_disk(uint64_t offset) {
    std::byte byte{};
    file("disk").disk.read(offset, std::span(&byte, 1));
    return byte;
  }

  schema::BlockdevOptionsChaos options_;
};

TEST_F(ChaosTest, DoesNothingUnlessItIsAsked) {
  block::Edge& edge = attach_chaos();
  EXPECT_TRUE(write(edge, 1, 1000, 3000));
  EXPECT_TRUE(holds(edge, 1, 1000, 3000));
  EXPECT_TRUE(run(edge.flush()));
}

TEST_F(ChaosTest, FailsEveryRequestOfAKindAtTheHighestRate) {
  options_.read_errors = 1000000;
  options_.errno_ = ENOSPC;
  block::Edge& edge = attach_chaos();
  EXPECT_TRUE(write(edge, 1, 0, 512));
  std::vector<std::byte> data(512);
  const Result<void> read = run(edge.read(0, data.data(), data.size()));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ENOSPC);
}

TEST_F(ChaosTest, TearsAWriteThatFails) {
  options_.write_errors = 1000000;
  options_.tear_writes = true;
  block::Edge& edge = attach_chaos();
  std::vector<std::byte> data(64 * 512, std::byte{7});
  EXPECT_FALSE(run(edge.write(0, data.data(), data.size())));
  int written = 0;
  for (uint64_t sector = 0; sector < 64; ++sector) {
    EXPECT_EQ(on_disk(sector * 512), on_disk(sector * 512 + 511));
    written += on_disk(sector * 512) == std::byte{7} ? 1 : 0;
  }
  EXPECT_GT(written, 0);
  EXPECT_LT(written, 64);
}

TEST_F(ChaosTest, HoldsWritesUntilAFlush) {
  options_.reorder_writes = true;
  block::Edge& edge = attach_chaos();
  std::vector<std::byte> data(512, std::byte{7});
  EXPECT_TRUE(run(edge.write(0, data.data(), data.size())));
  EXPECT_EQ(on_disk(0), std::byte{0});
  EXPECT_EQ(read(edge, 0, 512), data) << "what was answered is seen";
  EXPECT_TRUE(run(edge.flush()));
  EXPECT_EQ(on_disk(0), std::byte{7});
}

TEST_F(ChaosTest, CarriesHeldWritesOutWhenItIsClosed) {
  options_.reorder_writes = true;
  block::Edge& edge = attach_chaos();
  std::vector<std::byte> data(512, std::byte{7});
  EXPECT_TRUE(run(edge.write(0, data.data(), data.size())));
  EXPECT_TRUE(run(graph_.detach(std::move(edges_.back()))));
  edges_.pop_back();
  EXPECT_EQ(on_disk(0), std::byte{7});
}

TEST_F(ChaosTest, IsChangedWhileItIsInUse) {
  options_.reorder_writes = true;
  block::Edge& edge = attach_chaos();
  block::Driver& driver = edge.node().driver();
  EXPECT_TRUE(write(edge, 1, 0, 512));
  options_.reorder_writes = false;
  options_.flush_errors = 1000000;
  ASSERT_TRUE(driver.adopt_options(edge.node().options(), node()));
  EXPECT_FALSE(run(edge.flush()));
  EXPECT_TRUE(holds(edge, 1, 0, 512)) << "what it holds stays";
  EXPECT_TRUE(write(edge, 2, 100, 100)) << "behind what is held";
  EXPECT_TRUE(holds(edge, 2, 100, 100));
  options_.flush_errors = 0;
  EXPECT_TRUE(driver.adopt_options(edge.node().options(), node()));
}

TEST_F(ChaosTest, RefusesRatesThatAreNone) {
  options_.write_errors = 1000001;
  auto opened = run(graph_.open(node(), {}));
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().message(), "Parameter 'write-errors' expects a rate of at most 1000000");
}

// Whatever it does, a disk with a cache is all that it is: checked against a model, with failures.
TEST_F(ChaosTest, NeverShowsWhatNobodyWrote) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    options_ = {};
    const std::string name = fmt::format("disk{}", seed);
    world_.add(name, testing::SparseBytes(kSize));
    options_.file.value = schema::Box<schema::BlockdevOptions>(file_options(name));
    options_.seed = seed;
    options_.reorder_writes = true;
    options_.tear_writes = true;
    options_.max_delay_us = 10;
    options_.write_errors = 50000;
    block::Edge& edge = attach_chaos();
    testing::ContentModel model(kSize);
    testing::Random random(seed);
    for (testing::WriteNumber number = 1; number < 150; ++number) {
      const uint64_t length = 1 + random.below(6000);
      const uint64_t offset = random.below(kSize - length);
      if (number % 10 == 0) {
        const auto handle = model.begin_flush();
        ASSERT_TRUE(run(edge.flush()));
        model.end_flush(handle);
      } else if (number % 3 == 0) {
        std::vector<std::byte> data(length);
        const auto handle = model.begin_read();
        ASSERT_TRUE(run(edge.read(offset, data.data(), length)));
        const auto wrong = model.end_read(handle, offset, data);
        ASSERT_FALSE(wrong) << *wrong;
      } else if (number % 7 == 0) {
        const auto handle = model.begin_change(offset, length, {.number = testing::kZeroes});
        model.end_change(handle, run(edge.write_zeroes(offset, length)).has_value());
      } else {
        const auto handle = model.begin_change(offset, length, {.number = number});
        model.end_change(handle, write(edge, number, offset, length).has_value());
      }
    }
    EXPECT_TRUE(run(graph_.detach(std::move(edges_.back()))));
    edges_.pop_back();
    model.end_flush(model.begin_flush());
    model.power_cut();
    std::vector<std::byte> data(kSize);
    file(name).disk.read(0, data);
    const auto wrong = model.settle(0, data);
    ASSERT_FALSE(wrong) << *wrong;
  }
}

}  // namespace
}  // namespace cairn::filters
