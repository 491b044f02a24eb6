// Copying a piece of one node to the same place of another, for jobs that decide piece by piece.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "block/node.h"
#include "io/buffer.h"
#include "io/task.h"
#include "schema/types_job.h"

namespace cairn::jobs {

// What failed, and on which side.
struct PieceFailure {
  schema::IoOperationType operation;
  Error error;
};

class PieceCopy {
 public:
  // Bytes that are copied in one go, at most.
  static constexpr uint64_t kMost = 1 << 20;

  // Copies up to kMost bytes; `zero`: they are known to be zeroes. Nothing when it succeeded. One
  // at a time.
  [[nodiscard]] io::Task<std::optional<PieceFailure>> copy(block::Edge& source, block::Edge& target,
                                                           uint64_t offset, uint64_t length,
                                                           bool zero);

 private:
  io::AlignedBuffer buffer_;
};

}  // namespace cairn::jobs
