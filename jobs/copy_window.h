// CopyWindow: how many parts of a copy in the background are in flight.
//
// A few are enough for a disk of this host, and more only have clients of the disk wait, and take
// memory. A server that is far away answers many as fast as one, and needs many. What parts take
// tells which it is: as long as one takes hardly longer than the quickest did, there is room for
// more.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "io/backend.h"
#include "io/semaphore.h"

namespace cairn::jobs {

class CopyWindow {
 public:
  // Parts in flight wherever the copy goes, when the first is done.
  static constexpr std::size_t kUsual = 8;

  // Never more than `most` parts, at least one. The first is alone, to see what it takes.
  explicit CopyWindow(std::size_t most)
      : most_(std::max<std::size_t>(most, 1)), usual_(std::min(kUsual, most_)), places_(1) {}

  // The place of one part; waits until there is one. Is given to leave(), or released.
  [[nodiscard]] io::Semaphore::AcquireAwaiter enter() { return places_.acquire(); }

  // A part is done; `took` is for those that moved data.
  void leave(io::Semaphore::Units place, std::optional<io::Duration> took) {
    if (size_ < usual_) {
      grow(usual_ - size_);
    }
    if (!took) {
      return;
    }
    quickest_ = std::min(quickest_, *took);
    if (*took <= quickest_ + quickest_ / 4 && size_ < most_ && is_full()) {
      grow(1);
    } else if (*took > 2 * quickest_ && size_ > usual_) {
      --size_;
      kept_.push_back(std::move(place));
    }
  }

  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  // Nobody needs more places than are used.
  [[nodiscard]] bool is_full() const { return places_.available() == 0; }
  void grow(std::size_t count) {
    size_ += count;
    for (; count > 0 && !kept_.empty(); --count) {
      kept_.pop_back();
    }
    places_.add(count);
  }

  std::size_t most_;
  std::size_t usual_;
  std::size_t size_ = 1;  // places, taken or not
  io::Semaphore places_;
  std::vector<io::Semaphore::Units> kept_;  // places that there are no more
  io::Duration quickest_ = io::Duration::max();
};

}  // namespace cairn::jobs
