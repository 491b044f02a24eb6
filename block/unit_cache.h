// UnitCache: the coded units of a node (compressed clusters) that were decoded last, so that small
// reads of one unit decode it once, also when they come at the same time.
//
// Invariant: every unit in the cache was decoded since the last change of the node's mappings; the
// owner calls clear() at each one. A unit that is being decoded while that happens still answers
// the reads that wait for it, which began before the change, but is not kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/result.h"
#include "io/buffer.h"
#include "io/event.h"

namespace cairn::block {

struct Unit {
  uint64_t host_offset = 0;  // on the child, with stored_length: which unit it is
  uint64_t stored_length = 0;
  io::AlignedBuffer bytes;  // decoded
  Result<void> outcome;
  io::Event decoded;  // set when `bytes` and `outcome` are valid
};

class UnitCache {
 public:
  // The unit, decoded or on its way there; null when it is not known.
  [[nodiscard]] std::shared_ptr<Unit> find(uint64_t host_offset, uint64_t stored_length);

  // Takes in a unit that is about to be decoded; the least recently used ones make room.
  void insert(std::shared_ptr<Unit> unit);
  void remove(const Unit& unit);
  void clear() { units_.clear(); }

 private:
  static constexpr std::size_t kLimit = 1 << 20;  // bytes, but at least kLeast units
  static constexpr std::size_t kLeast = 2;

  std::vector<std::shared_ptr<Unit>> units_;  // the most recently used one last
};

}  // namespace cairn::block
