// CopyPolicy: whether a large transfer to or from a file in memory is worth another thread.
//
// Such a transfer is a copy by the processor. Done at once it costs no wake-ups, which is best
// while there is one at a time: nobody waits for the thread meanwhile. As soon as there are
// several, the thread that does them all is what limits the speed, and the copies go to another one
// while this one serves sockets and looks at data. That there will be several is expected when
// there were in the last turn of the reactor that had any. A program of which it is known that it
// does one thing after the other says so by keep_here(): it would only wait for each wake-up.
//
// On one reactor's thread.
#pragma once

#include <cstdint>

namespace cairn::io {

class CopyPolicy {
 public:
  // The smallest transfer for which a wake-up is cheap, in bytes.
  static constexpr uint64_t kLarge = uint64_t{64} * 1024;

  // A large copy is to be made. True: on another thread, and the caller calls end() afterwards.
  [[nodiscard]] bool begin_elsewhere() {
    ++this_turn_;
    const bool elsewhere = !kept_here_ && (running_ > 0 || this_turn_ > 1 || last_turn_ > 1);
    running_ += elsewhere ? 1 : 0;
    return elsewhere;
  }
  void end() { --running_; }

  // From now on all copies are made at once.
  void keep_here() { kept_here_ = true; }

  void next_turn() {
    if (this_turn_ > 0) {
      last_turn_ = this_turn_;
      this_turn_ = 0;
    }
  }

 private:
  bool kept_here_ = false;
  uint32_t running_ = 0;    // on other threads
  uint32_t this_turn_ = 0;  // begun, wherever
  uint32_t last_turn_ = 0;  // the same of the turn before that had any
};

}  // namespace cairn::io
