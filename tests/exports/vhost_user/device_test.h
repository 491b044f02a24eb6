// DeviceTest: a virtio device over a node in memory.
#pragma once

#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "block/driver_table.h"
#include "block/graph.h"
#include "exports/vhost_user/block_device.h"
#include "schema/types_block_options.h"
#include "tests/exports/nbd/memory_driver.h"
#include "tests/io/export_thread.h"
#include "tests/io/reactor_fixture.h"

namespace cairn::vhost_user {

class DeviceTest : public io::ReactorTest {
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
    thread_ = io::make_export_thread();
    device_ = std::make_unique<BlockDevice>(
        *root_,
        DeviceSettings{
            .writable = true, .queues = 2, .thread = thread_ ? &thread_->reactor() : nullptr});
  }
  void TearDown() override {
    device_.reset();
    if (root_ != nullptr) {
      EXPECT_TRUE(run(graph_.detach(std::move(root_))));
    }
  }

  testing::MemoryDisk disk_{kLength};
  block::DriverTable drivers_;
  block::Graph graph_{drivers_};
  std::unique_ptr<block::Edge> root_;
  std::unique_ptr<io::ReactorThread> thread_;
  std::unique_ptr<BlockDevice> device_;
};

}  // namespace cairn::vhost_user
