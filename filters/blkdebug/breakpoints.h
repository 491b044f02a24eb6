// Breakpoints: moments at which whoever gets there first has to wait, under a tag, until somebody
// resumes it.
//
// Invariants
// - A breakpoint stops one request, and is gone. Several for one event all stop the same one, which
//   goes on when each of its tags was resumed.
// - What waits is told of on standard output, where scripts look for it.
#pragma once

#include <list>
#include <string>
#include <string_view>
#include <vector>

#include "block/fault_point.h"
#include "io/waiter.h"

namespace cairn::block {
class Node;
}

namespace cairn::filters::blkdebug {

class Breakpoints {
 public:
  Breakpoints() = default;
  Breakpoints(const Breakpoints&) = delete;
  Breakpoints& operator=(const Breakpoints&) = delete;
  ~Breakpoints();

  void set(block::FaultPoint point, std::string tag);
  // Takes the breakpoints with a tag away and resumes whatever they have stopped; false: there was
  // none that had not stopped anything.
  bool remove(std::string_view tag);
  // Resumes the request that was stopped last under the tag; false: there is none.
  bool resume(std::string_view tag);
  [[nodiscard]] bool has_stopped(std::string_view tag) const;

  // As FaultListener's.
  [[nodiscard]] io::WaiterList* reached(block::FaultPoint point);

 private:
  struct Breakpoint {
    block::FaultPoint point;
    std::string tag;
  };
  struct Stopped {
    std::vector<std::string> tags;
    io::WaiterList request;
  };

  std::vector<Breakpoint> breakpoints_;
  std::list<Stopped> stopped_;  // the latest first
};

// Those of the first node that has any, from `top` down through what it stands on; null: none has.
[[nodiscard]] Breakpoints* find_breakpoints(block::Node& top);

}  // namespace cairn::filters::blkdebug
