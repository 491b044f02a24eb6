// docs/interop/qmp-spec.rst, "Issuing commands".
#include "monitor/request.h"

#include <cerrno>
#include <utility>

namespace cairn::monitor {

std::optional<schema::JsonValue> take_id(schema::JsonValue& message) {
  schema::JsonObject* object = message.as_object();
  if (!object || !object->find("id")) {
    return std::nullopt;
  }
  schema::JsonValue id = object->take("id");
  // Members of an object have no order; every client gets them in the same one.
  id.sort();
  return id;
}

Result<Request> parse_request(schema::JsonValue message, bool allow_oob) {
  const schema::JsonObject* object = message.as_object();
  if (!object) {
    return fail(EINVAL, "QMP input must be a JSON object");
  }
  Request request;
  std::string_view verb;
  for (const auto& [name, value] : *object) {
    if (name == "execute" || (name == "exec-oob" && allow_oob)) {
      if (!value.is_string()) {
        return fail(EINVAL, "QMP input member '{}' must be a string", name);
      }
      if (!verb.empty()) {
        return fail(EINVAL, "QMP input member 'execute' clashes with 'exec-oob'");
      }
      verb = name;
      request.command = *value.as_string();
      request.out_of_band = name == "exec-oob";
    } else if (name == "arguments") {
      if (!value.is_object()) {
        return fail(EINVAL, "QMP input member 'arguments' must be an object");
      }
      request.arguments = value;
    } else {
      return fail(EINVAL, "QMP input member '{}' is unexpected", name);
    }
  }
  if (verb.empty()) {
    return fail(EINVAL, "QMP input lacks member 'execute'");
  }
  return request;
}

}  // namespace cairn::monitor
