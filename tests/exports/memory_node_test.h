// MemoryNodeTest: a node in memory with a root edge, as an export has one.
#pragma once

#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "block/driver_table.h"
#include "block/graph.h"
#include "io/reactor.h"
#include "schema/types_block_options.h"
#include "tests/exports/nbd/memory_driver.h"
#include "tests/io/reactor_fixture.h"

namespace cairn::exports {

class MemoryNodeTest : public io::ReactorTest {
 protected:
  static constexpr uint64_t kLength = 1 << 20;

  void SetUp() override {
    io::ReactorTest::SetUp();
    if (reactor_ == nullptr) {
      return;
    }
    drivers_.add(testing::memory_driver_info(disk_));
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kNullCo;
    options.node_name = "disk";
    options.branch.emplace<schema::BlockdevOptionsNull>();
    auto node = run(graph_.open(options, {.discard_unmap = true}));
    ASSERT_TRUE(node) << node.error().message();
    using P = block::PermissionSet;
    auto root =
        graph_.attach(*node, "", {.used = P::kConsistentRead | P::kWrite, .shared = P::all()});
    ASSERT_TRUE(root) << root.error().message();
    root_ = std::move(*root);
  }
  void TearDown() override {
    if (root_ != nullptr) {
      EXPECT_TRUE(run(graph_.detach(std::move(root_))));
    }
  }

  testing::MemoryDisk disk_{kLength};
  block::DriverTable drivers_;
  block::Graph graph_{drivers_};
  std::unique_ptr<block::Edge> root_;
};

}  // namespace cairn::exports
