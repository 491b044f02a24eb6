// What filters that impose an alignment do about a child that ends within a block.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/bytes.h"

namespace cairn::filters {

// How much of an aligned request there is room for in a child of `end` bytes: the rest, if any, is
// only what alignment has added. Requests that go on behind that block are left as they are.
[[nodiscard]] inline uint64_t within_child(uint64_t end, uint64_t offset, uint64_t length,
                                           uint64_t alignment) {
  const bool padded =
      offset < end && offset + length > end && offset + length <= align_up(end, alignment);
  return padded ? end - offset : length;
}

}  // namespace cairn::filters
