// FilterTest: production formats and filters on simulated files, by virtual time.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "block/create_options.h"
#include "block/driver_table.h"
#include "block/graph.h"
#include "block/reopen.h"
#include "filters/compress.h"
#include "filters/copy_on_read.h"
#include "filters/preallocate.h"
#include "filters/throttle.h"
#include "formats/qcow2/driver.h"
#include "formats/raw/raw.h"
#include "io/reactor.h"
#include "io/throttle.h"
#include "io/worker_pool.h"
#include "schema/types_block_options.h"
#include "tests/support/pattern.h"
#include "tests/support/sim_backend.h"
#include "tests/support/simulated_world.h"

namespace cairn::filters {

// Of the images that tests make.
inline constexpr uint64_t kCluster = 65536;

class FilterTest : public ::testing::Test {
 protected:
  static constexpr block::Permissions kWriter{
      .used = block::PermissionSet::kConsistentRead | block::PermissionSet::kWrite,
      .shared = block::PermissionSet::all()};
  static constexpr block::Permissions kOwner{.used = block::PermissionSet::all(),
                                             .shared = block::PermissionSet::all()};

  explicit FilterTest(uint64_t seed = 1)
      : world_(seed), reactor_(std::make_unique<testing::SimBackend>(seed)) {
    io::WorkerPool::keep_shared_work_inline();
    for (const block::DriverInfo* driver :
         {&testing::SimulatedWorld::driver(), &qcow2::kQcow2Driver, &raw::kRawDriver,
          &kCompressDriver, &kCopyOnReadDriver, &kPreallocateDriver, &kThrottleDriver}) {
      drivers_.add(*driver);
    }
    graph_.set_throttle_lookup([this](const std::string& name) {
      const auto found = throttles_.find(name);
      return found != throttles_.end() ? found->second : nullptr;
    });
  }

  void TearDown() override {
    for (auto& edge : edges_) {
      EXPECT_TRUE(run(graph_.detach(std::move(edge))).has_value());
    }
    EXPECT_TRUE(run(graph_.close_all()).has_value());
    EXPECT_TRUE(graph_.nodes().empty());
    EXPECT_EQ(world_.violations(), std::vector<std::string>{});
    EXPECT_EQ(world_.in_flight(), 0U);
  }

  template <typename T>
  T run(io::Task<T> task) {
    return reactor_.block_on(std::move(task));
  }

  static schema::BlockdevRef to(std::string name) {
    schema::BlockdevRef ref;
    ref.value = std::move(name);
    return ref;
  }
  template <typename Branch>
  static schema::BlockdevOptions make(schema::BlockdevDriver driver, std::string name,
                                      Branch branch) {
    schema::BlockdevOptions options;
    options.driver = driver;
    options.node_name = std::move(name);
    options.discard = schema::BlockdevDiscardOptions::kUnmap;
    options.branch = std::move(branch);
    return options;
  }
  static schema::BlockdevOptions file(std::string name, std::string filename) {
    schema::BlockdevOptionsFile branch;
    branch.filename = std::move(filename);
    return make(schema::BlockdevDriver::kFile, std::move(name), std::move(branch));
  }
  static schema::BlockdevOptions raw(std::string name, std::string below) {
    schema::BlockdevOptionsRaw branch;
    branch.file = to(std::move(below));
    return make(schema::BlockdevDriver::kRaw, std::move(name), std::move(branch));
  }
  static schema::BlockdevOptions qcow2(std::string name, std::string below,
                                       const std::optional<std::string>& backing = {}) {
    schema::BlockdevOptionsQcow2 branch;
    branch.file = to(std::move(below));
    if (backing) {
      branch.backing.emplace();
      branch.backing->value = *backing;
    }
    return make(schema::BlockdevDriver::kQcow2, std::move(name), std::move(branch));
  }
  static schema::BlockdevOptions throttle(std::string name, std::string below, std::string group) {
    schema::BlockdevOptionsThrottle branch;
    branch.file = to(std::move(below));
    branch.throttle_group = std::move(group);
    return make(schema::BlockdevDriver::kThrottle, std::move(name), std::move(branch));
  }
  static schema::BlockdevOptions copy_on_read(std::string name, std::string below,
                                              std::optional<std::string> bottom = {}) {
    schema::BlockdevOptionsCor branch;
    branch.file = to(std::move(below));
    branch.bottom = std::move(bottom);
    return make(schema::BlockdevDriver::kCopyOnRead, std::move(name), std::move(branch));
  }
  static schema::BlockdevOptions compress(std::string name, std::string below) {
    schema::BlockdevOptionsGenericFormat branch;
    branch.file = to(std::move(below));
    return make(schema::BlockdevDriver::kCompress, std::move(name), std::move(branch));
  }
  static schema::BlockdevOptions preallocate(std::string name, std::string below,
                                             std::optional<int64_t> align = {},
                                             std::optional<int64_t> size = {}) {
    schema::BlockdevOptionsPreallocate branch;
    branch.file = to(std::move(below));
    branch.prealloc_align = align;
    branch.prealloc_size = size;
    return make(schema::BlockdevDriver::kPreallocate, std::move(name), std::move(branch));
  }

  // Adds a node that is held by its name; the error's text, or nothing.
  std::string add(const schema::BlockdevOptions& options) {
    auto added = run(graph_.add_monitor_node(options));
    return added ? "" : added.error().message();
  }
  std::string remove(const std::string& name) {
    auto removed = run(graph_.remove_monitor_node(name));
    return removed ? "" : removed.error().message();
  }
  // As the command does it.
  io::Task<Result<void>> reopen_alone(std::vector<schema::BlockdevOptions> options) {
    const auto alone = co_await graph_.alone();
    co_return co_await block::reopen(graph_, std::move(options));
  }
  std::string reopen(const schema::BlockdevOptions& options) {
    auto reopened = run(reopen_alone({options}));
    return reopened ? "" : reopened.error().message();
  }
  // Makes a new qcow2 image in the file of this name.
  void create_image(const std::string& name, uint64_t size) {
    world_.create(name, 0);
    block::CreateOptions options(qcow2::kQcow2Driver.create_options);
    ASSERT_TRUE(options.set("size", std::to_string(size)).has_value());
    auto created = run(qcow2::kQcow2Driver.create(graph_, name, options));
    ASSERT_TRUE(created.has_value()) << created.error().message();
  }
  // A root edge to a node; it is detached at the end.
  block::Edge& attach(const std::string& name, block::Permissions permissions = kWriter) {
    auto edge = graph_.attach(graph_.find(name), "a test", permissions);
    EXPECT_TRUE(edge.has_value()) << edge.error().message();
    edges_.push_back(std::move(*edge));
    return *edges_.back();
  }
  void detach(block::Edge& edge) {
    const auto at = std::ranges::find(edges_, &edge, &std::unique_ptr<block::Edge>::get);
    std::unique_ptr<block::Edge> owned = std::move(*at);
    edges_.erase(at);
    EXPECT_TRUE(run(graph_.detach(std::move(owned))).has_value());
  }

  std::string write(block::Edge& edge, testing::WriteNumber number, uint64_t offset,
                    uint64_t length, block::WriteFlags flags = {}) {
    std::vector<std::byte> data(length);
    testing::fill_pattern(number, offset, data);
    auto written = run(edge.write(offset, data.data(), length, flags));
    return written ? "" : written.error().message();
  }
  // What a write put there, or a message.
  std::string check(block::Edge& edge, testing::WriteNumber number, uint64_t offset,
                    uint64_t length) {
    std::vector<std::byte> data(length);
    auto read = run(edge.read(offset, data.data(), length));
    if (!read) {
      return read.error().message();
    }
    const uint64_t right = testing::matching_prefix(number, offset, data);
    return right == length
               ? ""
               : "at " + std::to_string(offset + right) + ": " +
                     testing::describe_data(offset + right, std::span(data).subspan(right));
  }
  // 'd' for data, 'z' for zeroes and '.' for what the node does not have, for each cluster.
  std::string clusters(block::Edge& edge) {
    std::string text;
    for (uint64_t offset = 0; offset < edge.length(); offset += kCluster) {
      const auto status = run(edge.status(offset, 512));
      text += !status ? '?' : !status->allocated ? '.' : status->zero ? 'z' : 'd';
    }
    return text;
  }

  testing::SimulatedWorld world_;
  io::Reactor reactor_;
  block::DriverTable drivers_;
  block::Graph graph_{drivers_};
  std::map<std::string, std::shared_ptr<io::Throttle>> throttles_;
  std::vector<std::unique_ptr<block::Edge>> edges_;
};

}  // namespace cairn::filters
