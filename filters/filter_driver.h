// FilterDriver: a filter that changes nothing. Filters derive from it, and say only what they do.
//
// A filter stands above one node and shows the same bytes. What it does not override costs it no
// coroutine: the task that the child's choke point returns is the answer.
//
// Invariants
// - The child decides on alignment, sizes and FUA: limits() asks for nothing, so that they hold
//   even when the child is replaced.
// - Snapshots are those of the child, unless the node has other children as well.
#pragma once

#include <cstdint>

#include "block/driver.h"
#include "block/node.h"

namespace cairn::filters {

class FilterDriver : public block::RequestDriver {
 public:
  // `child` is the edge to the filtered node; it lives as long as the node of this driver.
  explicit FilterDriver(block::Edge& child) : child_(child) {}

  [[nodiscard]] uint64_t length() const override { return child_.length(); }
  [[nodiscard]] block::Limits limits() const override { return {.native_fua = true}; }
  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override;
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> flush() override;
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions options) override;
  [[nodiscard]] io::Task<Result<block::BlockStatus>> status(uint64_t offset,
                                                            uint64_t length) override;
  [[nodiscard]] uint32_t cluster_size() const override {
    return child_.node().driver().cluster_size();
  }
  [[nodiscard]] std::optional<bool> dirty() const override {
    return child_.node().driver().dirty();
  }
  [[nodiscard]] Result<std::vector<block::Snapshot>> snapshots() const override;
  [[nodiscard]] io::Task<Result<void>> create_snapshot(block::Snapshot snapshot) override;
  [[nodiscard]] io::Task<Result<void>> apply_snapshot(std::string id) override;
  [[nodiscard]] io::Task<Result<void>> delete_snapshot(std::string id) override;

 protected:
  [[nodiscard]] block::Edge& child() const { return child_; }

 private:
  block::Edge& child_;
};

}  // namespace cairn::filters
