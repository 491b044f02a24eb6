// Qcow2Test: qcow2 images on simulated files, opened by the production graph.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "block/driver_table.h"
#include "block/graph.h"
#include "formats/qcow2/driver.h"
#include "io/reactor.h"
#include "io/worker_pool.h"
#include "schema/types_block_options.h"
#include "tests/support/pattern.h"
#include "tests/support/qcow2_builder.h"
#include "tests/support/qcow2_verifier.h"
#include "tests/support/sim_backend.h"
#include "tests/support/simulated_world.h"

namespace cairn::qcow2 {

// Of the images that tests make without asking for another.
inline constexpr uint64_t kCluster = 65536;
// As large as a page of a simulated file.
inline constexpr uint64_t kPageCluster = 4096;
// The smallest there are: with these a few are many, for tables.
inline constexpr uint64_t kTinyCluster = 512;

// A world with one qcow2 image, "image", that can be opened and closed again and again.
class ImageWorld {
 public:
  explicit ImageWorld(uint64_t seed = 1)
      : world_(seed), reactor_(std::make_unique<testing::SimBackend>(seed)) {
    io::WorkerPool::keep_shared_work_inline();
    drivers_.add(testing::SimulatedWorld::driver());
    drivers_.add(kQcow2Driver);
  }
  ImageWorld(const ImageWorld&) = delete;
  ImageWorld& operator=(const ImageWorld&) = delete;
  ~ImageWorld() {
    if (edge_ != nullptr) {
      static_cast<void>(close());
    }
  }

  template <typename T>
  T run(io::Task<T> task) {
    return reactor_.block_on(std::move(task));
  }

  [[nodiscard]] testing::SimulatedWorld& world() { return world_; }
  [[nodiscard]] testing::SimulatedFile& file() { return *world_.find("image"); }
  [[nodiscard]] block::Graph& graph() { return graph_; }
  [[nodiscard]] block::Edge& edge() { return *edge_; }
  [[nodiscard]] Qcow2Driver& driver() { return static_cast<Qcow2Driver&>(edge_->node().driver()); }
  // The options of the next open().
  [[nodiscard]] schema::BlockdevOptionsQcow2& options() { return options_; }

  // What the next open() puts between the image and its file: the node that `filter` makes of the
  // file's; nothing: none.
  using Filter = std::function<schema::BlockdevOptions(schema::BlockdevOptions file)>;
  void set_filter(Filter filter) { filter_ = std::move(filter); }
  void add_driver(const block::DriverInfo& driver) { drivers_.add(driver); }

  // How the next open() treats what is below.
  void set_writable_backing(unsigned which) { writable_backing_ = which; }

  // `to_check`: as a check opens it, however it is marked.
  Result<void> open(bool writable = true, bool to_check = false) {
    schema::BlockdevOptions file;
    file.driver = schema::BlockdevDriver::kFile;
    schema::BlockdevOptionsFile file_branch;
    file_branch.filename = "image";
    file.branch = file_branch;
    schema::BlockdevOptions image;
    image.driver = schema::BlockdevDriver::kQcow2;
    options_.file.value = schema::Box<schema::BlockdevOptions>(filter_ ? filter_(file) : file);
    image.branch.emplace<schema::BlockdevOptionsQcow2>(options_);
    auto node = run(graph_.open(image, {.read_only = !writable,
                                        .check_only = to_check,
                                        .discard_unmap = true,
                                        .writable_backing = writable_backing_}));
    if (!node) {
      return pass(node);
    }
    using P = block::PermissionSet;
    const P used = writable ? P::kConsistentRead | P::kWrite | P::kResize : P(P::kConsistentRead);
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
  // The number of the write that a range is all from; nothing when it is not, or can not be read.
  bool holds(testing::WriteNumber number, uint64_t offset, std::size_t length) {
    std::vector<std::byte> data(length);
    const Result<void> read = run(edge_->read(offset, data.data(), length));
    return read && testing::matching_prefix(number, offset, data) == length;
  }
  Result<void> zero(uint64_t offset, uint64_t length, block::ZeroFlags flags = {}) {
    return run(edge_->write_zeroes(offset, length, flags));
  }
  Result<void> discard(uint64_t offset, uint64_t length) {
    return run(edge_->discard(offset, length));
  }
  Result<void> flush() { return run(edge_->flush()); }

  // What the verifier says of the image file as it is now; its data file is "data".
  testing::Qcow2Verifier::Report verify() {
    testing::SimulatedFile* const data = world_.find("data");
    return testing::Qcow2Verifier(file().disk.visible(),
                                  data != nullptr ? &data->disk.visible() : nullptr)
        .verify();
  }

 private:
  testing::SimulatedWorld world_;
  io::Reactor reactor_;
  block::DriverTable drivers_;
  block::Graph graph_{drivers_};
  schema::BlockdevOptionsQcow2 options_;
  Filter filter_;
  unsigned writable_backing_ = 0;
  std::unique_ptr<block::Edge> edge_;
};

class Qcow2Test : public ::testing::Test {
 protected:
  // Makes an image and opens it for writing.
  void start(testing::Qcow2Shape shape) {
    testing::Qcow2Builder builder(std::move(shape));
    start(builder);
  }
  void start(testing::Qcow2Builder& builder) {
    image_.world().add("image", builder.finish());
    if (builder.shape().external_data()) {
      image_.world().add(builder.shape().data_file, builder.finish_data());
    }
    open();
  }
  void open(bool writable = true) {
    const auto opened = image_.open(writable);
    ASSERT_TRUE(opened) << opened.error().message();
  }
  // Closes and expects an image without any finding.
  void close_clean() {
    const auto closed = image_.close();
    EXPECT_TRUE(closed) << closed.error().message();
    const auto report = image_.verify();
    EXPECT_EQ(report.corruptions, std::vector<std::string>{});
    EXPECT_EQ(report.leaks, 0u);
    EXPECT_EQ(image_.world().violations(), std::vector<std::string>{});
  }

  ImageWorld image_;
};

}  // namespace cairn::qcow2
