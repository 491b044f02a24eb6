// DeviceTest: a virtio device over a node in memory.
#pragma once

#include <memory>

#include "exports/vhost_user/block_device.h"
#include "tests/exports/memory_node_test.h"
#include "tests/io/export_thread.h"

namespace cairn::vhost_user {

class DeviceTest : public exports::MemoryNodeTest {
 protected:
  void SetUp() override {
    MemoryNodeTest::SetUp();
    if (root_ == nullptr) {
      return;
    }
    thread_ = io::make_export_thread();
    device_ = std::make_unique<BlockDevice>(
        *root_,
        DeviceSettings{
            .writable = true, .queues = 2, .thread = thread_ ? &thread_->reactor() : nullptr});
  }
  void TearDown() override {
    device_.reset();
    MemoryNodeTest::TearDown();
  }

  std::unique_ptr<io::ReactorThread> thread_;
  std::unique_ptr<BlockDevice> device_;
};

}  // namespace cairn::vhost_user
