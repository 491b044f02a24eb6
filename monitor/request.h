// Request: one message of a client, taken apart.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "schema/json.h"

namespace cairn::monitor {

struct Request {
  std::string command;
  schema::JsonValue arguments = schema::JsonObject();
  bool out_of_band = false;
};

// The id of a message, of whatever type, when it is an object and has one.
[[nodiscard]] std::optional<schema::JsonValue> take_id(schema::JsonValue& message);

// Checks the members of `message`, apart from its id; `allow_oob`: 'exec-oob' may be used.
[[nodiscard]] Result<Request> parse_request(schema::JsonValue message, bool allow_oob);

}  // namespace cairn::monitor
