// EventHub: hands every event to all sessions that have negotiated, some kinds not more often than
// once a second.
#pragma once

#include <chrono>
#include <functional>
#include <string_view>
#include <vector>

#include "monitor/event_throttle.h"
#include "schema/json.h"
#include "schema/visit_containers.h"

namespace cairn::monitor {

class EventListener {
 public:
  EventListener() = default;
  EventListener(const EventListener&) = delete;
  EventListener& operator=(const EventListener&) = delete;
  virtual ~EventListener() = default;
  // The whole message, with its timestamp.
  virtual void on_event(const schema::JsonValue& message) = 0;
};

// On the home reactor only.
class EventHub {
 public:
  EventHub() = default;
  EventHub(const EventHub&) = delete;
  EventHub& operator=(const EventHub&) = delete;

  // `listener` stays until it is removed.
  void add(EventListener& listener) { listeners_.push_back(&listener); }
  void remove(EventListener& listener) { std::erase(listeners_, &listener); }

  // Raises the event of type E, one of schema::events.
  template <typename E>
  void raise(const typename E::Data& data) {
    schema::JsonValue body = to_json(data);
    send(E::kName, std::move(body));
  }

 private:
  void send(std::string_view name, schema::JsonValue data);
  void deliver(const schema::JsonValue& message) const;

  std::vector<EventListener*> listeners_;
  EventThrottle throttle_{[this](const schema::JsonValue& message) { deliver(message); }};
};

}  // namespace cairn::monitor
