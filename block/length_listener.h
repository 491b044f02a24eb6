// LengthListener: somebody who shows the length of a node to others, and has to tell them when it
// changes.
#pragma once

namespace cairn::block {

class LengthListener {
 public:
  LengthListener() = default;
  LengthListener(const LengthListener&) = delete;
  LengthListener& operator=(const LengthListener&) = delete;
  virtual ~LengthListener() = default;

  // Some node of the graph has, or may have, another length; those of nodes above it follow. Called
  // on the home reactor, maybe during a drain: it only takes notice.
  virtual void on_length_change() = 0;
};

}  // namespace cairn::block
