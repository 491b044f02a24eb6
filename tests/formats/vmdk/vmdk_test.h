// VmdkWorld: VMDK images on simulated files, made and opened by the production graph.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "block/create_options.h"
#include "block/driver_table.h"
#include "block/graph.h"
#include "formats/vmdk/create.h"
#include "formats/vmdk/driver.h"
#include "formats/vmdk/vmdk.h"
#include "io/reactor.h"
#include "io/worker_pool.h"
#include "tests/support/pattern.h"
#include "tests/support/sim_backend.h"
#include "tests/support/simulated_world.h"

namespace cairn::vmdk {

inline constexpr uint64_t kGrain = 65536;

class VmdkWorld {
 public:
  explicit VmdkWorld(uint64_t seed = 1)
      : world_(seed), reactor_(std::make_unique<testing::SimBackend>(seed)) {
    io::WorkerPool::keep_shared_work_inline();
    drivers_.add(testing::SimulatedWorld::driver());
    drivers_.add(kVmdkDriver);
  }
  VmdkWorld(const VmdkWorld&) = delete;
  VmdkWorld& operator=(const VmdkWorld&) = delete;
  ~VmdkWorld() {
    if (edge_ != nullptr) {
      static_cast<void>(close());
    }
  }

  template <typename T>
  T run(io::Task<T> task) {
    return reactor_.block_on(std::move(task));
  }

  [[nodiscard]] testing::SimulatedWorld& world() { return world_; }
  [[nodiscard]] block::Graph& graph() { return graph_; }
  [[nodiscard]] block::Edge& edge() { return *edge_; }
  [[nodiscard]] VmdkDriver& driver() { return static_cast<VmdkDriver&>(edge_->node().driver()); }
  testing::SimulatedFile& file(std::string_view name = "image.vmdk") { return *world_.find(name); }
  // A number of the file as it is now.
  template <typename T>
  T number(uint64_t offset, std::string_view name = "image.vmdk") {
    const std::vector<std::byte> bytes = file(name).disk.visible().read(offset, sizeof(T));
    return load_le<T>(bytes.data());
  }

  using Options = std::vector<std::pair<std::string, std::string>>;
  Result<void> create(const Options& wanted, const std::string& name = "image.vmdk") {
    block::CreateOptions options(create_option_table());
    for (const auto& [option, value] : wanted) {
      if (auto set = options.set(option, value); !set) {
        return set;
      }
    }
    return run(create_image(graph_, name, options));
  }

  Result<void> open(bool writable = true, const std::string& name = "image.vmdk") {
    auto node = run(graph_.open_filename(name, "vmdk", {.read_only = !writable}));
    if (!node) {
      return pass(node);
    }
    using P = block::PermissionSet;
    const P used = writable ? P::kConsistentRead | P::kWrite : P(P::kConsistentRead);
    auto edge = graph_.attach(*node, "a test", {.used = used, .shared = P::all()});
    if (!edge) {
      return pass(edge);
    }
    edge_ = std::move(*edge);
    return {};
  }
  Result<void> close() { return run(graph_.detach(std::move(edge_))); }

  Result<void> write(testing::WriteNumber number, uint64_t offset, std::size_t length,
                     block::WriteFlags flags = {}) {
    std::vector<std::byte> data(length);
    testing::fill_pattern(number, offset, data);
    return run(edge_->write(offset, data.data(), length, flags));
  }
  // A range is all from one write; false when it is not, or can not be read.
  bool holds(testing::WriteNumber number, uint64_t offset, std::size_t length) {
    std::vector<std::byte> data(length);
    const Result<void> read = run(edge_->read(offset, data.data(), length));
    return read && testing::matching_prefix(number, offset, data) == length;
  }
  Result<void> zero(uint64_t offset, uint64_t length) {
    return run(edge_->write_zeroes(offset, length));
  }
  Result<void> flush() { return run(edge_->flush()); }
  Result<block::CheckResult> check() { return run(driver().check({})); }

 private:
  testing::SimulatedWorld world_;
  io::Reactor reactor_;
  block::DriverTable drivers_;
  block::Graph graph_{drivers_};
  std::unique_ptr<block::Edge> edge_;
};

// A fixture with one world, and one image.
class VmdkTest : public ::testing::Test {
 protected:
  void start(const VmdkWorld::Options& options) {
    const auto created = image_.create(options);
    ASSERT_TRUE(created) << created.error().message();
    open();
  }
  void open(bool writable = true) {
    const auto opened = image_.open(writable);
    ASSERT_TRUE(opened) << opened.error().message();
  }
  void close() {
    const auto closed = image_.close();
    EXPECT_TRUE(closed) << closed.error().message();
    EXPECT_EQ(image_.world().violations(), std::vector<std::string>{});
  }

  VmdkWorld image_;
};

}  // namespace cairn::vmdk
