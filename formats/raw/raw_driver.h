// RawDriver: translates by adding the window's offset. Owns nothing but the numbers.
#pragma once

#include <optional>

#include "block/driver.h"
#include "block/node.h"
#include "formats/raw/window.h"

namespace cairn::raw {

class RawDriver final : public block::TranslatingDriver {
 public:
  // `file` belongs to the node and outlives the driver.
  RawDriver(block::Edge& file, RawWindow window) : file_(file), window_(window) {}

  [[nodiscard]] uint64_t length() const override { return window_.length(file_.length()); }
  // What the file can not tell, nobody knows.
  [[nodiscard]] uint32_t cluster_size() const override {
    return file_.node().driver().cluster_size();
  }
  [[nodiscard]] std::optional<bool> dirty() const override { return file_.node().driver().dirty(); }
  [[nodiscard]] block::Permissions child_permissions(block::ChildRole role,
                                                     block::Permissions parents,
                                                     bool writable) const override;
  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions options) override;

  // Nothing is allocated here, so any byte is a unit.
  [[nodiscard]] uint64_t allocation_unit() const override { return 1; }
  [[nodiscard]] bool try_map(uint64_t offset, uint64_t length, block::Extent& extent) override;
  [[nodiscard]] io::Task<Result<block::Extent>> map(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override;
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override;

 private:
  block::Edge& file_;
  const RawWindow window_;
};

}  // namespace cairn::raw
