// Counters of one node, in the terms of query-blockstats.
#pragma once

#include <cstdint>

#include "io/backend.h"

namespace cairn::block {

// Requests of one kind.
struct RequestCounters {
  // Those that succeeded: how many, their bytes, and how long they took together.
  uint64_t operations = 0;
  uint64_t bytes = 0;
  io::Duration time{0};
  uint64_t failed = 0;
  // The choke point refused them: out of bounds, or without permission.
  uint64_t invalid = 0;

  // One is done that began at `begin`.
  void count(uint64_t length, bool succeeded, io::TimePoint begin, io::TimePoint end) {
    if (succeeded) {
      ++operations;
      bytes += length;
      time += end - begin;
    } else {
      ++failed;
    }
  }
};

struct Statistics {
  RequestCounters reads;
  RequestCounters writes;
  RequestCounters flushes;
  RequestCounters unmaps;
  // One past the last byte ever written.
  uint64_t write_highest_offset = 0;
  // When the last request was done, by the reactor's clock; its epoch when there was none.
  io::TimePoint last_access;
};

}  // namespace cairn::block
