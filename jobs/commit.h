// Committing an image: what it, and the images between, hold of their own goes into an image of its
// backing chain; then it is emptied and reads the same from there.
//
// At every moment, power cuts included, the image reads as before: while the base changes, it
// changes only where something above hides it, and the image is emptied when the base is durable.
// What nobody may expect to stay is the content of the base, and of images between the two.
#pragma once

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "block/node.h"
#include "io/task.h"

namespace cairn::jobs {

struct CommitOptions {
  // The image: used to read and write. Nobody else writes to it, or to its backing chain.
  block::Edge* overlay = nullptr;
  // An image of its backing chain: used to read, write and resize.
  block::Edge* base = nullptr;

  // Has the image emptied. `base` is then the one that it names as its backing file.
  bool empty = true;
  uint64_t rate_limit = 0;  // bytes of data a second; 0: none
  bool fua = false;         // each piece is durable before it counts as done

  std::function<void(uint64_t done, uint64_t total)> progress;  // in bytes; may be empty
};

// Makes the base as long as the overlay when it is shorter, so that nothing that is read through
// the overlay changes. Both edges as above, but for what else uses the nodes.
[[nodiscard]] io::Task<Result<void>> grow_base(block::Edge& overlay, block::Edge& base);

// The base grows to the image's size when it is smaller, and is never cut. On failure the image
// reads as before, and the base has some of what is to be there.
[[nodiscard]] io::Task<Result<void>> commit_image(const CommitOptions& options);

}  // namespace cairn::jobs
