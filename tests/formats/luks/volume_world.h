// VolumeWorld: one LUKS volume, "v", on a simulated disk, made and opened by the production graph.
// The password of a secret is "password of NAME".
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "block/create_options.h"
#include "block/graph.h"
#include "formats/luks/create.h"
#include "formats/luks/luks.h"
#include "io/reactor.h"
#include "io/worker_pool.h"
#include "schema/types_block_info.h"
#include "schema/types_block_options.h"
#include "tests/support/pattern.h"
#include "tests/support/sim_backend.h"
#include "tests/support/simulated_world.h"

namespace cairn::luks {

using VolumeOptions = std::map<std::string, std::string>;

class VolumeWorld {
 public:
  // The volume is not there before create().
  explicit VolumeWorld(uint64_t seed = 1, VolumeOptions more = {})
      : more_(std::move(more)),
        world_(seed),
        reactor_(std::make_unique<testing::SimBackend>(seed)) {
    io::WorkerPool::keep_shared_work_inline();
    drivers_.add(testing::SimulatedWorld::driver());
    drivers_.add(kLuksDriver);
    graph_.set_secret_lookup(
        [](const std::string& name) -> Result<std::string> { return "password of " + name; });
    more_.insert(
        {{"size", "4096"}, {"key-secret", "first"}, {"iter-time", "0"}, {"cipher-alg", "aes-128"}});
  }
  VolumeWorld(const VolumeWorld&) = delete;
  VolumeWorld& operator=(const VolumeWorld&) = delete;
  ~VolumeWorld() { close(); }

  template <typename T>
  T run(io::Task<T> task) {
    return reactor_.block_on(std::move(task));
  }
  testing::SimulatedWorld& world() { return world_; }
  block::Edge& edge() { return *edge_; }
  [[nodiscard]] const std::string& error() const { return error_; }

  // With the password of "first".
  bool create() {
    block::CreateOptions options(create_option_table());
    for (const auto& [name, value] : more_) {
      EXPECT_TRUE(options.set(name, value)) << name;
    }
    const Result<void> created = run(create_volume(graph_, "v", options));
    error_ = created ? "" : created.error().message();
    return created.has_value();
  }
  // What has been written so far is on the disk: it is not what is tested.
  void make_durable() {
    const testing::SparseBytes bytes = world_.find("v")->disk.visible();
    world_.remove("v");
    world_.add("v", bytes);
  }

  bool open(const std::string& secret) {
    schema::BlockdevOptions file;
    file.driver = schema::BlockdevDriver::kFile;
    file.branch.emplace<schema::BlockdevOptionsFile>().filename = "v";
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kLuks;
    auto& luks = options.branch.emplace<schema::BlockdevOptionsLUKS>();
    luks.file.value = schema::Box<schema::BlockdevOptions>(file);
    luks.key_secret = secret;
    auto node = run(graph_.open(options));
    if (!node) {
      error_ = node.error().message();
      return false;
    }
    auto edge =
        graph_.attach(*node, "a test", {block::PermissionSet::all(), block::PermissionSet::all()});
    EXPECT_TRUE(edge);
    edge_ = std::move(*edge);
    return true;
  }
  void close() {
    if (edge_ != nullptr) {
      static_cast<void>(run(graph_.detach(std::move(edge_))));
      edge_.reset();
    }
  }
  bool opens(const std::string& secret) {
    const bool good = open(secret);
    close();
    return good;
  }

  // What went wrong; empty: nothing.
  std::string amend(const VolumeOptions& wanted, bool force = false) {
    block::CreateOptions options(amend_option_table());
    for (const auto& [name, value] : wanted) {
      EXPECT_TRUE(options.set(name, value)) << name;
    }
    options.set_forced(force);
    const Result<void> amended = run(edge_->amend(options));
    return amended ? "" : amended.error().message();
  }
  std::string add(const std::string& secret) {
    return amend({{"state", "active"}, {"new-secret", secret}, {"iter-time", "0"}});
  }
  std::string erase(const std::string& secret) {
    return amend({{"state", "inactive"}, {"old-secret", secret}});
  }
  // What was in slot 1 makes room.
  std::string replace(const std::string& secret) {
    return amend(
        {{"state", "active"}, {"new-secret", secret}, {"iter-time", "0"}, {"keyslot", "1"}}, true);
  }
  std::string states() {
    const auto info = run(edge_->node().driver().specific_info());
    std::string text;
    for (const auto& slot :
         std::get<schema::ImageInfoSpecificLUKSWrapper>((*info)->branch).data.slots) {
      text += slot.active ? '1' : '0';
    }
    return text;
  }

  bool write(testing::WriteNumber number, uint64_t offset, std::size_t length) {
    std::vector<std::byte> data(length);
    testing::fill_pattern(number, offset, data);
    return run(edge_->write(offset, data.data(), length)).has_value();
  }
  // A range is all from one write; false when it is not, or can not be read.
  bool holds(testing::WriteNumber number, uint64_t offset, std::size_t length) {
    std::vector<std::byte> data(length);
    const Result<void> read = run(edge_->read(offset, data.data(), length));
    return read && testing::matching_prefix(number, offset, data) == length;
  }
  bool flush() { return run(edge_->flush()).has_value(); }
  bool resize(uint64_t length) { return run(edge_->resize(length)).has_value(); }

 private:
  VolumeOptions more_;
  testing::SimulatedWorld world_;
  io::Reactor reactor_;
  block::DriverTable drivers_;
  block::Graph graph_{drivers_};
  std::unique_ptr<block::Edge> edge_;
  std::string error_;
};

}  // namespace cairn::luks
