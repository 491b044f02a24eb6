// VoteReport: what a quorum node found out about its children.
#pragma once

#include <cstdint>
#include <string>

namespace cairn::block {

struct VoteReport {
  enum class Request : uint8_t { kRead, kWrite, kFlush };

  // False: too few children agreed, and the request of the quorum node has failed. True: one child
  // failed, or differs from what was agreed on.
  bool about_child = false;
  std::string node_name;  // of the child, or of the quorum node
  Request request = Request::kRead;
  std::string error;  // what the child failed with; empty when it differs
  // In sectors of 512 bytes, rounded outwards.
  uint64_t first_sector = 0;
  uint64_t sectors = 0;
};

}  // namespace cairn::block
