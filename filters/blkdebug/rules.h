// Rules: which requests fail, from which moment on, and in which state. Pure: knows no nodes.
//
// Invariants
// - The rules of one event hold at a time: reaching an event that has rules for the state replaces
//   those that held. Reaching any other event changes nothing.
// - The state is 1 at first. All rules of an event look at the state before it.
#pragma once

#include <cerrno>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "block/fault_point.h"

namespace cairn::filters::blkdebug {

enum class RequestKind : uint8_t { kRead, kWrite, kWriteZeroes, kDiscard, kFlush, kBlockStatus };

struct ErrorRule {
  int64_t state = 0;                // 0: in any
  std::optional<RequestKind> kind;  // nothing: all but block status
  int error = EIO;                  // 0 or less: none, which ends what the event before has begun
  int64_t sector = -1;              // of 512 bytes; negative: any
  bool once = false;
  bool immediately = false;
};

struct StateRule {
  int64_t state = 0;  // 0: in any
  int64_t new_state = 0;
};

class Rules {
 public:
  void add(block::FaultPoint point, const ErrorRule& rule);
  void add(block::FaultPoint point, const StateRule& rule);

  void reached(block::FaultPoint point);

  // What a request is to fail with, if it is; ends a rule that holds once. Requests without a range
  // have a length of 0.
  [[nodiscard]] std::optional<ErrorRule> failure_of(RequestKind kind, uint64_t offset,
                                                    uint64_t length);

  [[nodiscard]] int64_t state() const { return state_; }

 private:
  struct Numbered {
    uint64_t number = 0;
    ErrorRule rule;
  };
  struct OfPoint {
    std::vector<Numbered> errors;
    std::vector<StateRule> states;
  };

  std::map<block::FaultPoint, OfPoint> points_;
  std::vector<Numbered> holding_;  // in the order in which they were given
  uint64_t last_number_ = 0;
  int64_t state_ = 1;
};

}  // namespace cairn::filters::blkdebug
