#include "monitor/event_throttle.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "io/reactor.h"

namespace cairn::monitor {

// The second after an event.
class EventThrottle::Window final : public io::TimerEntry {
 public:
  Window(EventThrottle& throttle, std::string key) : throttle_(throttle), key_(std::move(key)) {
    begin();
  }
  ~Window() override { io::Reactor::current().remove_timer(*this); }

  void hold(schema::JsonValue message) { held_ = std::move(message); }

 private:
  void begin() {
    auto& reactor = io::Reactor::current();
    reactor.add_timer(*this, reactor.now() + kInterval);
  }

  void on_expired() override {
    if (!held_) {
      throttle_.windows_.erase(throttle_.windows_.find(key_));  // and this window with it
      return;
    }
    const schema::JsonValue message = std::move(*held_);
    held_.reset();
    begin();
    throttle_.deliver_(message);
  }

  EventThrottle& throttle_;
  const std::string key_;
  std::optional<schema::JsonValue> held_;
};

EventThrottle::EventThrottle(Deliver deliver) : deliver_(std::move(deliver)) {}

EventThrottle::~EventThrottle() = default;

std::string_view EventThrottle::subject_member(std::string_view name) {
  static constexpr std::pair<std::string_view, std::string_view> kHeldBack[] = {
      {"QUORUM_FAILURE", "reference"},
      {"QUORUM_REPORT_BAD", "node-name"},
      {"VSERPORT_CHANGE", "id"},
  };
  const auto* found =
      std::ranges::find(kHeldBack, name, [](const auto& entry) { return entry.first; });
  return found == std::end(kHeldBack) ? std::string_view() : found->second;
}

void EventThrottle::pass(std::string_view name, std::string_view subject,
                         schema::JsonValue message) {
  std::string key = fmt::format("{} {}", name, subject);
  if (const auto window = windows_.find(key); window != windows_.end()) {
    window->second->hold(std::move(message));
    return;
  }
  windows_.emplace(key, std::make_unique<Window>(*this, key));
  deliver_(message);
}

}  // namespace cairn::monitor
