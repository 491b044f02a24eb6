// EventThrottle: holds events back that something could raise without end.
//
// Of events of one kind about the same thing one goes out at once. Those that follow within a
// second are dropped but for the last, which goes out when the second is over, as of when it was
// raised (docs/interop/qmp-spec.rst, "Rate-limiting").
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "io/backend.h"
#include "schema/json.h"

namespace cairn::monitor {

class EventThrottle {
 public:
  static constexpr std::chrono::seconds kInterval{1};

  // `deliver` gets what goes out: whole messages.
  using Deliver = std::function<void(const schema::JsonValue& message)>;
  explicit EventThrottle(Deliver deliver);
  EventThrottle(const EventThrottle&) = delete;
  EventThrottle& operator=(const EventThrottle&) = delete;
  // Drops what is held back.
  ~EventThrottle();

  // The member of an event's data that says what it is about; empty when events of this name are
  // not held back.
  [[nodiscard]] static std::string_view subject_member(std::string_view name);

  // An event about `subject`, whose name is one of those.
  void pass(std::string_view name, std::string_view subject, schema::JsonValue message);

 private:
  class Window;

  Deliver deliver_;
  std::map<std::string, std::unique_ptr<Window>, std::less<>> windows_;
};

}  // namespace cairn::monitor
