// BlockTest: a graph of production nodes on simulated files, by virtual time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "block/driver_table.h"
#include "block/graph.h"
#include "io/reactor.h"
#include "schema/types_block_options.h"
#include "tests/block/cluster_format.h"
#include "tests/support/pattern.h"
#include "tests/support/sim_backend.h"
#include "tests/support/simulated_world.h"

namespace cairn::block {

class BlockTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kUnit = ClusterFormat::kUnit;
  static constexpr Permissions kWriter{
      .used = PermissionSet::kConsistentRead | PermissionSet::kWrite,
      .shared = PermissionSet::all()};
  static constexpr Permissions kReader{.used = PermissionSet::kConsistentRead,
                                       .shared = PermissionSet::all()};

  BlockTest() {
    drivers_.add(testing::SimulatedWorld::driver());
    drivers_.add(ClusterFormat::driver());
    ClusterFormat::settings() = {};
  }
  void TearDown() override {
    for (auto& edge : edges_) {
      EXPECT_TRUE(run(graph_.detach(std::move(edge))).has_value());
    }
    EXPECT_TRUE(graph_.nodes().empty());
    EXPECT_EQ(world_.violations(), std::vector<std::string>{});
    EXPECT_EQ(world_.in_flight(), 0U);
  }

  template <typename T>
  T run(io::Task<T> task) {
    return reactor_.block_on(std::move(task));
  }

  static schema::BlockdevOptions file_options(const std::string& filename) {
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kFile;
    schema::BlockdevOptionsFile branch;
    branch.filename = filename;
    options.branch = branch;
    return options;
  }
  static schema::BlockdevOptions format_options(const std::string& filename,
                                                std::optional<std::string> backing = {}) {
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kQcow2;
    schema::BlockdevOptionsQcow2 branch;
    branch.file.value = schema::Box<schema::BlockdevOptions>(file_options(filename));
    if (backing) {
      branch.backing.emplace();
      branch.backing->value = *backing;
    }
    options.branch = branch;
    return options;
  }

  // A root edge to a new node; it is detached at the end. Fails the test on an error.
  Edge& attach(const schema::BlockdevOptions& options, Permissions permissions = kWriter,
               OpenFlags flags = {}) {
    auto node = run(graph_.open(options, flags));
    EXPECT_TRUE(node.has_value()) << node.error().message();
    auto edge = graph_.attach(*node, "a test", permissions);
    EXPECT_TRUE(edge.has_value()) << edge.error().message();
    edges_.push_back(std::move(*edge));
    return *edges_.back();
  }
  Edge& attach_file(const std::string& name, uint64_t size, testing::FileTraits traits = {},
                    Permissions permissions = kWriter) {
    world_.add(name, testing::SparseBytes(size), traits);
    return attach(file_options(name), permissions, {.discard_unmap = true});
  }
  // A ClusterFormat on a new file.
  Edge& attach_format(Permissions permissions = kWriter) {
    world_.add("image");
    return attach(format_options("image"), permissions, {.discard_unmap = true});
  }
  static ClusterFormat& format_of(Edge& edge) {
    return static_cast<ClusterFormat&>(edge.node().driver());
  }

  static std::vector<std::byte> pattern(testing::WriteNumber number, uint64_t offset,
                                        std::size_t length) {
    std::vector<std::byte> data(length);
    testing::fill_pattern(number, offset, data);
    return data;
  }
  Result<void> write(Edge& edge, testing::WriteNumber number, uint64_t offset, std::size_t length,
                     WriteFlags flags = {}) {
    auto data = pattern(number, offset, length);
    return run(edge.write(offset, data.data(), length, flags));
  }
  // What a read sees; empty when it fails.
  std::vector<std::byte> read(Edge& edge, uint64_t offset, std::size_t length) {
    std::vector<std::byte> data(length);
    const Result<void> result = run(edge.read(offset, data.data(), length));
    EXPECT_TRUE(result.has_value()) << result.error().message();
    return data;
  }
  bool holds(Edge& edge, testing::WriteNumber number, uint64_t offset, std::size_t length) {
    return read(edge, offset, length) == pattern(number, offset, length);
  }
  testing::SimulatedFile& file(const std::string& name) { return *world_.find(name); }

  testing::SimulatedWorld world_{1};
  io::Reactor reactor_{std::make_unique<testing::SimBackend>(1)};
  DriverTable drivers_;
  Graph graph_{drivers_};
  std::vector<std::unique_ptr<Edge>> edges_;
};

}  // namespace cairn::block
