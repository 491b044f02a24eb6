// SnapshotTest: a disk "source" under a copy-before-write node "cbw" that saves to "target", and a
// snapshot-access node "snapshot" that shows the disk as it was. All of it on simulated files.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "filters/copy_before_write.h"
#include "filters/snapshot_access.h"
#include "tests/block/block_test.h"

namespace cairn::filters {

class SnapshotTest : public block::BlockTest {
 protected:
  static constexpr uint64_t kGranule = 64 << 10;
  static constexpr uint64_t kSize = 16 * kGranule;

  SnapshotTest() {
    drivers_.add(kCopyBeforeWriteDriver);
    drivers_.add(kSnapshotAccessDriver);
    block::ClusterFormat::settings().length = kSize;
  }

  static schema::BlockdevRef defined(schema::BlockdevOptions options, const char* name) {
    options.node_name = name;
    options.discard = schema::BlockdevDiscardOptions::kUnmap;
    schema::BlockdevRef reference;
    reference.value = schema::Box<schema::BlockdevOptions>(std::move(options));
    return reference;
  }
  static schema::BlockdevRef named(const char* name) {
    schema::BlockdevRef reference;
    reference.value = std::string(name);
    return reference;
  }

  // The disk holds write 1 everywhere, but for the last quarter, which is a hole.
  void add_files() {
    world_.add("source", testing::SparseBytes(kSize));
    world_.add("target", testing::SparseBytes(kSize));
    block::Edge& writer = attach(file_options("source"));
    ASSERT_TRUE(write(writer, 1, 0, kHole));
    ASSERT_TRUE(run(graph_.detach(std::move(edges_.back()))));
    edges_.pop_back();
  }

  // The guest's edge, to the filter. The files are there.
  block::Edge& insert(schema::BlockdevOptionsCbw own = {}) {
    own.file = defined(file_options("source"), "source");
    own.target = defined(file_options("target"), "target");
    return attach_filter(std::move(own));
  }
  block::Edge& attach_filter(schema::BlockdevOptionsCbw own) {
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kCopyBeforeWrite;
    options.node_name = "cbw";
    options.discard = schema::BlockdevDiscardOptions::kUnmap;
    options.branch = std::move(own);
    return attach(options);
  }
  // A reader of the disk as it was.
  block::Edge& attach_snapshot() {
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kSnapshotAccess;
    options.node_name = "snapshot";
    options.discard = schema::BlockdevDiscardOptions::kUnmap;
    schema::BlockdevOptionsGenericFormat own;
    own.file = named("cbw");
    options.branch = std::move(own);
    return attach(options);
  }
  // A reader of what has been saved.
  block::Edge& attach_target() {
    auto edge = graph_.attach(graph_.find("target"), "a test", kReader);
    EXPECT_TRUE(edge.has_value()) << edge.error().message();
    edges_.push_back(std::move(*edge));
    return *edges_.back();
  }
  CopyBeforeWrite& filter() { return static_cast<CopyBeforeWrite&>(graph_.find("cbw")->driver()); }
  bool holds_old(block::Edge& edge) {
    return holds(edge, 1, 0, kHole) && holds(edge, testing::kZeroes, kHole, kSize - kHole);
  }

  static constexpr uint64_t kHole = kSize * 3 / 4;
};

}  // namespace cairn::filters
