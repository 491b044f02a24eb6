// Counters of one node, in the terms of query-blockstats.
#pragma once

#include <cstdint>

namespace cairn::block {

struct Statistics {
  uint64_t read_bytes = 0;
  uint64_t write_bytes = 0;
  uint64_t zone_append_bytes = 0;
  uint64_t unmap_bytes = 0;
  uint64_t read_operations = 0;
  uint64_t write_operations = 0;
  uint64_t flush_operations = 0;
  uint64_t unmap_operations = 0;
  // One past the last byte ever written.
  uint64_t write_highest_offset = 0;
};

}  // namespace cairn::block
