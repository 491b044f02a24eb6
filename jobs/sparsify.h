// Giving up the space that an image uses for zeroes, in place.
//
// Only ranges that read as zeroes are changed, and into zeroes that take no space, by the request
// that the format has for that. So the image reads the same at any moment, power cuts included.
#pragma once

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "block/node.h"
#include "io/cancel.h"
#include "io/task.h"

namespace cairn::jobs {

struct SparsifyOptions {
  // Used to read and write. Nobody else writes to it.
  block::Edge* image = nullptr;
  unsigned workers = 8;    // pieces in flight, each with a buffer
  io::CancelToken cancel;  // it fails with ECANCELED, once no request runs

  std::function<void(uint64_t done, uint64_t total)> progress;  // in bytes; may be empty
};

struct SparsifyOutcome {
  // Bytes of the disk. What is given up had space of its own before, as far as can be told; what is
  // kept reads as zeroes, too, but the image has no other way to store it.
  uint64_t given_up = 0;
  uint64_t kept = 0;
};

// Looks at what the image itself stores, not at its backing files. Does not flush.
[[nodiscard]] io::Task<Result<SparsifyOutcome>> sparsify_image(const SparsifyOptions& options);

}  // namespace cairn::jobs
