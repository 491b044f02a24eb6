// IdlePoll: how long a reactor looks for work before it sleeps.
//
// Waking a sleeping thread takes longer than what many a request takes to be served. When the last
// waits were short the next one is expected to be, too, and looking on for that long gets to the
// request at once; when they were long, looking is a waste and is left. The window starts small,
// grows while waits end beyond it but within the limit, and shrinks after one that was longer.
//
// A client with many requests under way is no reason to look: the more of them come together, the
// less each of them costs, and sleeping is what collects them.
//
// On one reactor's thread.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace cairn::io {

struct PollSettings {
  std::chrono::nanoseconds longest{0};  // the limit of the window; 0: never looks
  int64_t grow = 0;                     // factor; 0: 2
  int64_t shrink = 0;                   // divisor; 0: back to nothing at once

  bool operator==(const PollSettings&) const = default;
};

// For a thread that serves clients: long enough for a client on the same machine to have its answer
// and ask again. Where this program has one processor looking would keep the client from it.
[[nodiscard]] PollSettings serving_poll_settings();

class IdlePoll {
 public:
  using Duration = std::chrono::nanoseconds;

  // As many coroutines as may run between two waits for these to count as one request.
  static constexpr uint32_t kFewResumptions = 8;

  void configure(PollSettings settings) {
    settings_ = settings;
    window_ = std::min(window_, settings.longest);
  }
  [[nodiscard]] bool enabled() const { return settings_.longest.count() > 0; }

  // How long to look before the next sleep.
  [[nodiscard]] Duration window() const { return window_; }

  // Work came after `span` of looking or sleeping; before that the reactor had run `resumptions`
  // coroutines since its last wait.
  void waited(Duration span, uint32_t resumptions) {
    if (span > settings_.longest || resumptions > kFewResumptions) {
      window_ = settings_.shrink == 0 ? Duration::zero() : window_ / settings_.shrink;
    } else if (span > window_) {
      window_ = grown();
    }
  }

 private:
  static constexpr int64_t kDefaultGrow = 2;
  static constexpr Duration kSmallest{4000};

  [[nodiscard]] Duration grown() const {
    const int64_t factor = settings_.grow == 0 ? kDefaultGrow : settings_.grow;
    const bool beyond = window_ > settings_.longest / factor;
    return beyond ? settings_.longest
                  : std::min(std::max(window_ * factor, kSmallest), settings_.longest);
  }

  PollSettings settings_;
  Duration window_{0};
};

}  // namespace cairn::io
