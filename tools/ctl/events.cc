// Events as they come, and waiting for one.
#include "tools/ctl/events.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tools/ctl/ctl.h"
#include "tools/ctl/show.h"

namespace cairn::ctl {

namespace {

using schema::JsonObject;
using schema::JsonValue;

// Dotted names and what they hold.
void append_data(std::string& out, const JsonObject& object, const std::string& prefix) {
  for (const auto& [name, value] : object) {
    if (const auto* inner = value.as_object()) {
      append_data(out, *inner, prefix + name + ".");
    } else {
      out += fmt::format("  {}{}={}", clean(prefix + name), "",
                         value.is_array() ? clean(schema::to_text(value)) : show_scalar(value));
    }
  }
}

const JsonValue* find_path(const JsonObject& object, std::string_view path) {
  const size_t dot = path.find('.');
  const JsonValue* value = object.find(path.substr(0, dot));
  if (!value || dot == path.npos) {
    return value;
  }
  const auto* inner = value->as_object();
  return inner ? find_path(*inner, path.substr(dot + 1)) : nullptr;
}

// A value of an event and what somebody wrote for it.
bool same_value(const JsonValue& value, const std::string& text) {
  if (const std::string* held = value.as_string()) {
    return *held == text;
  }
  if (const bool* held = value.as_bool()) {
    return text == (*held ? "true" : "false") || text == (*held ? "on" : "off");
  }
  return schema::to_text(value) == text;
}

void print_event(const JsonValue& event, const Options& options) {
  if (options.output != Output::kText) {
    print_value(event, "", options);
  } else {
    const std::string line = describe_event(event);
    fmt::print("{}\n", line);
  }
  std::fflush(stdout);
}

Exit no_more_events(const Error& error) { return complain(Exit::kNoConnection, error.message()); }

// An event that can not come would be waited for without end.
Result<void> check_conditions(const DaemonSchema& schema, const std::string& name,
                              std::span<const std::string> conditions) {
  const auto event = std::ranges::find(schema.events(), name, &SchemaEvent::name);
  if (event == schema.events().end()) {
    std::vector<std::string> names;
    for (const SchemaEvent& known : schema.events()) {
      names.push_back(known.name);
    }
    const std::string guess = nearest(name, names);
    return guess.empty() ? fail(ENOENT, "There is no event '{}'", name)
                         : fail(ENOENT, "There is no event '{}'; did you mean '{}'?", name, guess);
  }
  const std::vector<std::string> members = event->data->member_names();
  for (const std::string& condition : conditions) {
    const std::string key = condition.substr(0, condition.find_first_of(".="));
    if (std::ranges::find(members, key) == members.end()) {
      return members.empty()
                 ? fail(ENOENT, "{} has no data", name)
                 : fail(ENOENT, "{} has no '{}'; it has: {}", name, key, fmt::join(members, ", "));
    }
  }
  return {};
}

}  // namespace

std::string describe_event(const JsonValue& event) {
  const JsonObject& object = *event.as_object();
  std::string line;
  if (const auto* stamp = object.find("timestamp"); stamp && stamp->is_object()) {
    const auto* seconds = stamp->as_object()->find("seconds");
    const auto* micro = stamp->as_object()->find("microseconds");
    if (seconds && seconds->as_int64() && *seconds->as_int64() >= 0) {
      const auto time = static_cast<std::time_t>(*seconds->as_int64());
      const int64_t fraction = micro && micro->as_int64() ? *micro->as_int64() : 0;
      line = fmt::format("{:%F %T}.{:03}  ", fmt::localtime(time), fraction / 1000);
    }
  }
  line += show_scalar(*object.find("event"));
  if (const auto* data = object.find("data"); data && data->is_object()) {
    append_data(line, *data->as_object(), "");
  }
  return line;
}

bool event_matches(const JsonValue& event, std::string_view name,
                   std::span<const std::string> conditions) {
  const JsonObject& object = *event.as_object();
  const auto* named = object.find("event");
  if (!named || !named->is_string() || *named->as_string() != name) {
    return false;
  }
  const auto* data = object.find("data");
  return std::ranges::all_of(conditions, [&](const std::string& condition) {
    const size_t equals = condition.find('=');
    const JsonValue* value =
        data && data->is_object()
            ? find_path(*data->as_object(), std::string_view(condition).substr(0, equals))
            : nullptr;
    return value && equals != condition.npos && same_value(*value, condition.substr(equals + 1));
  });
}

Exit run_events(const Options& options) {
  auto connection = connect(options);
  if (!connection) {
    return complain(Exit::kNoConnection, connection.error().message());
  }
  while (true) {
    auto event = connection->next_event(std::nullopt);
    if (!event) {
      return no_more_events(event.error());
    }
    print_event(**event, options);
  }
}

Exit run_wait_event(const Options& options) {
  auto connection = connect(options);
  if (!connection) {
    return complain(Exit::kNoConnection, connection.error().message());
  }
  const std::string& name = options.words.front();
  const auto schema = fetch_schema(*connection);
  if (!schema) {
    return complain(Exit::kNoConnection, schema.error().message());
  }
  const std::span<const std::string> conditions = std::span(options.words).subspan(1);
  if (const auto checked = check_conditions(*schema, name, conditions); !checked) {
    return complain(Exit::kUsage, checked.error().message());
  }
  std::optional<Clock::time_point> deadline;
  if (options.timeout) {
    deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(*options.timeout);
  }
  if (!options.then.empty()) {
    Exit exit = Exit::kOk;
    const std::vector<std::string> words(options.then.begin() + 1, options.then.end());
    static_cast<void>(execute_words(*connection, options.then.front(), words, exit));
    if (exit != Exit::kOk) {
      return exit;
    }
  }
  while (true) {
    auto event = connection->next_event(deadline);
    if (!event) {
      return no_more_events(event.error());
    }
    if (!*event) {
      return complain(Exit::kTimeout, fmt::format("{} has not come in time", name));
    }
    if (event_matches(**event, name, conditions)) {
      print_event(**event, options);
      return Exit::kOk;
    }
  }
}

}  // namespace cairn::ctl
