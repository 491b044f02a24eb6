// The message of an event: docs/interop/qmp-spec.rst, "Asynchronous events".
#include "monitor/events.h"

#include <string>
#include <utility>

namespace cairn::monitor {

void EventHub::send(std::string_view name, schema::JsonValue data) {
  if (listeners_.empty()) {
    return;
  }
  const auto now = std::chrono::duration_cast<std::chrono::microseconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  schema::JsonObject timestamp;
  timestamp.add("seconds", int64_t{now / 1000000});
  timestamp.add("microseconds", int64_t{now % 1000000});
  schema::JsonObject message;
  message.add("timestamp", std::move(timestamp));
  message.add("event", name);
  const std::string_view about = EventThrottle::subject_member(name);
  std::string subject;
  if (const auto* member = about.empty() ? nullptr : data.as_object()->find(about)) {
    subject = member->as_string() ? *member->as_string() : std::string();
  }
  if (!data.as_object()->empty()) {
    message.add("data", std::move(data));
  }
  schema::JsonValue whole(std::move(message));
  if (about.empty()) {
    deliver(whole);
  } else {
    throttle_.pass(name, subject, std::move(whole));
  }
}

void EventHub::deliver(const schema::JsonValue& message) const {
  // A listener that can not keep up removes itself.
  const std::vector<EventListener*> everybody = listeners_;
  for (EventListener* listener : everybody) {
    listener->on_event(message);
  }
}

}  // namespace cairn::monitor
