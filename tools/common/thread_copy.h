// ThreadCopy: copies what images store in files to a raw image on threads of its own, each of which
// reads a little, looks for zeroes in it, and writes it while it is in the processor's cache.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "block/node.h"
#include "tools/common/file_copy.h"

namespace cairn::tools {

class ThreadCopy final : public FileCopy {
 public:
  // Shortest run of zeroes, in bytes, for which it makes no difference in which parts one looks.
  static constexpr uint64_t kMostSparse = 4096;

  // Null when the target is no raw image in a file. It reads as zeroes, and runs of zeroes from
  // `sparse_size` on, at most kMostSparse, are left out; 0: none. The edge outlives it.
  [[nodiscard]] static io::Task<std::unique_ptr<ThreadCopy>> create(block::Edge& target,
                                                                    uint64_t sparse_size);

  [[nodiscard]] io::Task<bool> copy(const block::Node& from, uint64_t from_offset, uint64_t to,
                                    uint64_t length) override;

 private:
  ThreadCopy(RawFile target, uint64_t sparse_size)
      : FileCopy(std::move(target)), sparse_size_(sparse_size) {}

  uint64_t sparse_size_;
};

}  // namespace cairn::tools
