// The message of an event: docs/interop/qmp-spec.rst, "Asynchronous events".
#include "monitor/events.h"

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
  if (!data.as_object()->empty()) {
    message.add("data", std::move(data));
  }
  const schema::JsonValue whole(std::move(message));
  // A listener that can not keep up removes itself.
  const std::vector<EventListener*> everybody = listeners_;
  for (EventListener* listener : everybody) {
    listener->on_event(whole);
  }
}

}  // namespace cairn::monitor
