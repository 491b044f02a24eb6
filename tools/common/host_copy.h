// HostCopy: has the host copy between files, so that the data does not pass through the program; a
// file system that can share data between files does not copy at all.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "block/node.h"
#include "tools/common/file_copy.h"

namespace cairn::tools {

class HostCopy final : public FileCopy {
 public:
  // Null when the target is no raw image in a file. The edge outlives it.
  [[nodiscard]] static io::Task<std::unique_ptr<HostCopy>> create(block::Edge& target);

  [[nodiscard]] io::Task<bool> copy(const block::Node& from, uint64_t from_offset, uint64_t to,
                                    uint64_t length) override;

 private:
  explicit HostCopy(RawFile target) : FileCopy(std::move(target)) {}

  bool possible_ = true;
};

}  // namespace cairn::tools
