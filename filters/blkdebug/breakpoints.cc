#include "filters/blkdebug/breakpoints.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include <fmt/format.h>

#include "block/node.h"
#include "filters/blkdebug/blkdebug_driver.h"

namespace cairn::filters::blkdebug {

namespace {

void tell(std::string_view what, std::string_view tag) {
  fmt::print("blkdebug: {} request '{}'\n", what, tag);
  std::fflush(stdout);
}

}  // namespace

Breakpoints::~Breakpoints() {
  for (Stopped& stopped : stopped_) {
    stopped.request.wake_all();
  }
}

void Breakpoints::set(block::FaultPoint point, std::string tag) {
  breakpoints_.push_back({point, std::move(tag)});
}

bool Breakpoints::remove(std::string_view tag) {
  const bool removed = std::erase_if(breakpoints_, [tag](const Breakpoint& breakpoint) {
                         return breakpoint.tag == tag;
                       }) != 0;
  while (resume(tag)) {
  }
  return removed;
}

bool Breakpoints::resume(std::string_view tag) {
  for (auto stopped = stopped_.begin(); stopped != stopped_.end(); ++stopped) {
    const auto found = std::ranges::find(stopped->tags, tag);
    if (found == stopped->tags.end()) {
      continue;
    }
    tell("Resuming", tag);
    stopped->tags.erase(found);
    if (stopped->tags.empty()) {
      stopped->request.wake_all();
      stopped_.erase(stopped);
    }
    return true;
  }
  return false;
}

bool Breakpoints::has_stopped(std::string_view tag) const {
  return std::ranges::any_of(stopped_, [tag](const Stopped& stopped) {
    return std::ranges::find(stopped.tags, tag) != stopped.tags.end();
  });
}

io::WaiterList* Breakpoints::reached(block::FaultPoint point) {
  std::vector<std::string> tags;
  for (auto breakpoint = breakpoints_.rbegin(); breakpoint != breakpoints_.rend(); ++breakpoint) {
    if (breakpoint->point == point) {
      tags.push_back(breakpoint->tag);
    }
  }
  if (tags.empty()) {
    return nullptr;
  }
  std::erase_if(breakpoints_,
                [point](const Breakpoint& breakpoint) { return breakpoint.point == point; });
  for (const std::string& tag : tags) {
    tell("Suspended", tag);
  }
  Stopped& stopped = stopped_.emplace_front();
  stopped.tags = std::move(tags);
  return &stopped.request;
}

Breakpoints* find_breakpoints(block::Node& top) {
  for (block::Node* node = &top; node != nullptr;) {
    if (auto* driver = dynamic_cast<BlkdebugDriver*>(&node->driver()); driver != nullptr) {
      return &driver->breakpoints();
    }
    const auto below = std::ranges::find_if(node->children(), [](const auto& edge) {
      return edge->role() == block::ChildRole::kImage ||
             edge->role() == block::ChildRole::kFiltered;
    });
    node = below == node->children().end() ? nullptr : &(*below)->node();
  }
  return nullptr;
}

}  // namespace cairn::filters::blkdebug
