// GraphTest: a fixture with a reactor, a graph of real drivers and a directory of its own.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "block/graph.h"
#include "io/reactor.h"
#include "schema/types_block_options.h"

namespace cairn::testing {

class GraphTest : public ::testing::Test {
 protected:
  // The drivers must outlive the test: they are those of the programs.
  explicit GraphTest(const std::vector<const block::DriverInfo*>& drivers) {
    for (const block::DriverInfo* driver : drivers) {
      drivers_.add(*driver);
    }
  }

  void SetUp() override {
    const char* io = getenv("CAIRN_IO");
    const auto kind = io::parse_backend_kind(io != nullptr ? io : "auto");
    ASSERT_TRUE(kind);
    auto reactor = io::Reactor::create(*kind);
    if (!reactor) {
      GTEST_SKIP() << reactor.error().message();
    }
    reactor_ = std::move(*reactor);
    std::string pattern = ::testing::TempDir() + "cairn-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    graph_ = std::make_unique<block::Graph>(drivers_);
  }

  void TearDown() override {
    if (graph_) {
      for (auto& edge : edges_) {
        EXPECT_TRUE(run(graph_->detach(std::move(edge))));
      }
      edges_.clear();
      EXPECT_TRUE(run(graph_->close_all()));
    }
    if (!directory_.empty()) {
      std::filesystem::remove_all(directory_);
    }
  }

  template <typename T>
  T run(io::Task<T> task) {
    return reactor_->block_on(std::move(task));
  }

  [[nodiscard]] std::string path(std::string_view name) const {
    return directory_ + "/" + std::string(name);
  }

  // Makes a file of `size` bytes, all of them `fill`; zeroes become a hole.
  std::string make_file(std::string_view name, uint64_t size, char fill = 0) const {
    std::ofstream file(path(name), std::ios::binary);
    if (fill != 0) {
      file << std::string(size, fill);
    }
    file.close();
    std::filesystem::resize_file(path(name), size);
    return path(name);
  }

  [[nodiscard]] std::string content(std::string_view name) const {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  // Opens a node and attaches to it; null, with the error in `error_`, when that fails.
  block::Edge* open(const schema::BlockdevOptions& options, block::Permissions permissions,
                    block::OpenFlags flags = {}) {
    auto node = run(graph_->open(options, flags));
    if (!node) {
      error_ = node.error().message();
      return nullptr;
    }
    auto edge = graph_->attach(*node, "test", permissions);
    if (!edge) {
      error_ = edge.error().message();
      EXPECT_TRUE(run(graph_->release(*node)));
      return nullptr;
    }
    edges_.push_back(std::move(*edge));
    return edges_.back().get();
  }

  void detach(block::Edge* edge) {
    for (auto at = edges_.begin(); at != edges_.end(); ++at) {
      if (at->get() == edge) {
        auto owned = std::move(*at);
        edges_.erase(at);
        ASSERT_TRUE(run(graph_->detach(std::move(owned))));
        return;
      }
    }
  }

  // Bytes of a node, or the error's text.
  std::string read(block::Edge& edge, uint64_t offset, uint64_t length) {
    std::string data(length, '?');
    const auto result = run(edge.read(offset, data.data(), length));
    return result ? data : result.error().message();
  }
  Result<void> write(block::Edge& edge, uint64_t offset, const std::string& data,
                     block::WriteFlags flags = {}) {
    return run(edge.write(offset, data.data(), data.size(), flags));
  }

  static constexpr block::Permissions kRead{block::PermissionSet::kConsistentRead,
                                            block::PermissionSet::all()};
  static constexpr block::Permissions kReadWrite{
      block::PermissionSet::kConsistentRead | block::PermissionSet::kWrite,
      block::PermissionSet::all()};
  static constexpr block::Permissions kAll{block::PermissionSet::all(),
                                           block::PermissionSet::all()};

  block::DriverTable drivers_;
  std::unique_ptr<io::Reactor> reactor_;
  std::string directory_;
  std::unique_ptr<block::Graph> graph_;
  std::vector<std::unique_ptr<block::Edge>> edges_;
  std::string error_;
};

// Options of a file node.
inline schema::BlockdevOptions file_options(std::string filename) {
  schema::BlockdevOptions options;
  options.driver = schema::BlockdevDriver::kFile;
  schema::BlockdevOptionsFile file;
  file.filename = std::move(filename);
  options.branch = std::move(file);
  return options;
}

}  // namespace cairn::testing
