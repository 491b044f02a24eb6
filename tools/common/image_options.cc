// Lists of options and "json:" names as objects, and those as what the schema has for them.
#include "tools/common/image_options.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/size_text.h"
#include "schema/json_stream.h"
#include "schema/keyval.h"
#include "schema/visit_block_options.h"
#include "tools/common/option_words.h"
#include "tools/common/report.h"

namespace cairn::tools {
namespace {

using schema::JsonObject;
using schema::JsonValue;

// Options that take a size with a suffix on command lines, although their type is a plain number.
constexpr std::string_view kSizes[] = {
    "size",           "offset",      "cache-size",   "l2-cache-size",   "l2-cache-entry-size",
    "latency-ns",     "align",       "max-transfer", "opt-write-zero",  "refcount-cache-size",
    "max-write-zero", "opt-discard", "max-discard",  "log-sector-size", "prealloc-align",
    "prealloc-size"};

// The rest of a path below the nearest object on the way that names its driver, and that object:
// "cache.nosuch" of "file.cache.nosuch".
struct OptionOfDriver {
  const JsonObject* object;
  std::string_view rest;
};

OptionOfDriver find_driver(const JsonObject& root, std::string_view path) {
  OptionOfDriver found{.object = &root, .rest = path};
  const JsonObject* object = &root;
  std::string_view rest = path;
  for (size_t dot = rest.find('.'); dot != rest.npos; dot = rest.find('.')) {
    const JsonValue* child = object->find(rest.substr(0, dot));
    if (child == nullptr || child->as_object() == nullptr) {
      break;
    }
    object = child->as_object();
    rest.remove_prefix(dot + 1);
    if (text_of(*object, "driver") != nullptr) {
      found = {.object = object, .rest = rest};
    }
  }
  return found;
}

// The path down to a single value: "odd.x" for "odd", when that is {"x": 1}, "odd.0" when it is
// [1].
std::string whole_path(const JsonObject& root, std::string_view path) {
  std::string whole(path);
  const JsonObject* object = &root;
  const JsonValue* value = nullptr;
  for (std::string_view rest = path; object != nullptr && !rest.empty();) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    value = object->find(rest.substr(0, dot));
    object = value != nullptr ? value->as_object() : nullptr;
    rest.remove_prefix(std::min(dot + 1, rest.size()));
  }
  while (value != nullptr) {
    if (object = value->as_object(); object != nullptr && !object->empty()) {
      whole += fmt::format(".{}", object->begin()->first);
      value = &object->begin()->second;
    } else if (const schema::JsonArray* list = value->as_array(); list && !list->empty()) {
      whole += ".0";
      value = list->data();
    } else {
      break;
    }
  }
  return whole;
}

// What `message` says it of, when it begins and ends so; empty otherwise.
std::string_view subject_of(std::string_view message, std::string_view begin,
                            std::string_view end) {
  return message.starts_with(begin) && message.ends_with(end) &&
                 message.size() >= begin.size() + end.size()
             ? message.substr(begin.size(), message.size() - begin.size() - end.size())
             : std::string_view();
}

// What lies at a path like "inject-error.0.errno"; null when there is nothing.
const JsonValue* value_at(const JsonObject& root, std::string_view path) {
  const JsonValue* value = nullptr;
  for (const JsonObject* object = &root; !path.empty();) {
    const size_t dot = std::min(path.find('.'), path.size());
    const std::string_view name = path.substr(0, dot);
    path.remove_prefix(std::min(dot + 1, path.size()));
    if (const schema::JsonArray* list = value != nullptr ? value->as_array() : nullptr) {
      const auto index = parse_size(name);
      value = index && *index < list->size() ? list->data() + *index : nullptr;
    } else {
      value = object != nullptr ? object->find(name) : nullptr;
    }
    if (value == nullptr) {
      return nullptr;
    }
    object = value->as_object();
  }
  return value;
}

// The tools also know "on" and "off" of what has other names in the schema.
JsonValue discard_word(const JsonValue& value) {
  const std::string* word = value.as_string();
  return word == nullptr ? value : *word == "on" ? "unmap" : *word == "off" ? "ignore" : value;
}

// Numbers and booleans as a list of options on the command line would hold them.
JsonValue as_text(const JsonValue& value) {
  if (const JsonObject* object = value.as_object()) {
    JsonObject text;
    for (const auto& [name, member] : *object) {
      text.add(name, name == "discard" ? discard_word(as_text(member)) : as_text(member));
    }
    return text;
  }
  if (const schema::JsonArray* array = value.as_array()) {
    schema::JsonArray text;
    for (const JsonValue& element : *array) {
      text.push_back(as_text(element));
    }
    return text;
  }
  if (const bool* flag = value.as_bool()) {
    return *flag ? "on" : "off";
  }
  return value.is_number() ? JsonValue(to_text(value)) : value;
}

// The mode of overlap checks in the words that the tools have for it; those of the schema name the
// member alone.
Result<void> check_overlap_mode(const JsonObject& object) {
  const std::string* mode = text_of(object, "overlap-check");
  if (const JsonValue* value = object.find("overlap-check");
      value != nullptr && value->as_object() != nullptr) {
    mode = text_of(*value->as_object(), "template");
  }
  if (mode != nullptr && !schema::from_string<schema::Qcow2OverlapCheckMode>(*mode)) {
    return fail(EINVAL,
                "Unsupported value '{}' for qcow2 option 'overlap-check'. Allowed are any of the "
                "following: none, constant, cached, all",
                *mode);
  }
  return {};
}

// Servers can be told in the short form of old: host and port, or path.
Result<void> expand_server(JsonObject& object) {
  const std::string* driver = text_of(object, "driver");
  if (driver == nullptr || *driver != "nbd" || object.find("server") != nullptr) {
    return {};
  }
  if (object.find("path") != nullptr && object.find("host") != nullptr) {
    return fail(EINVAL, "path and host may not be used at the same time");
  }
  JsonObject server;
  if (object.find("path") != nullptr) {
    server.add("type", "unix");
    server.add("path", object.take("path"));
  } else if (object.find("host") != nullptr) {
    const bool has_port = object.find("port") != nullptr;
    server.add("type", "inet");
    server.add("host", object.take("host"));
    server.add("port", has_port ? object.take("port") : JsonValue("10809"));
  } else {
    return {};
  }
  object.add("server", std::move(server));
  return {};
}

// "file.filename" means "filename" within "file", also in JSON.
void add_unfolded(JsonObject& out, std::string_view name, const JsonValue& value) {
  if (const size_t dot = name.find('.'); dot != name.npos) {
    const std::string_view first = name.substr(0, dot);
    if (out.find(first) == nullptr) {
      out.add(std::string(first), JsonObject());
    }
    if (JsonObject* inner = out.find(first)->as_object()) {
      add_unfolded(*inner, name.substr(dot + 1), value);
    }
  } else if (const JsonObject* object = value.as_object()) {
    if (out.find(name) == nullptr || out.find(name)->as_object() == nullptr) {
      put(out, name, JsonObject());
    }
    for (const auto& [key, member] : *object) {
      add_unfolded(*out.find(name)->as_object(), key, member);
    }
  } else if (const schema::JsonArray* array = value.as_array()) {
    schema::JsonArray list;
    for (const JsonValue& element : *array) {
      JsonObject holder;
      add_unfolded(holder, "element", element);
      list.push_back(holder.take("element"));
    }
    put(out, name, JsonValue(std::move(list)));
  } else {
    put(out, name, value);
  }
}

// Objects whose members are numbered are lists.
JsonValue with_lists(const JsonValue& value) {
  const JsonObject* object = value.as_object();
  if (object == nullptr) {
    return value;
  }
  JsonObject members;
  schema::JsonArray list;
  for (const auto& [name, member] : *object) {
    members.add(name, with_lists(member));
  }
  while (const JsonValue* element = members.find(std::to_string(list.size()))) {
    list.push_back(*element);
  }
  return list.empty() || list.size() != members.size() ? JsonValue(std::move(members))
                                                       : JsonValue(std::move(list));
}

}  // namespace

const std::string* text_of(const JsonObject& object, std::string_view name) {
  const JsonValue* value = object.find(name);
  return value != nullptr ? value->as_string() : nullptr;
}

const block::DriverInfo* driver_of(const block::Graph& graph, const JsonObject& options) {
  const std::string* name = text_of(options, "driver");
  return name != nullptr ? graph.drivers().find(*name) : nullptr;
}

void put(JsonObject& object, std::string_view name, JsonValue value) {
  (void)object.take(name);
  object.add(std::string(name), std::move(value));
}

Result<void> normalize_options(JsonObject& object) {
  const std::string* driver = text_of(object, "driver");
  const bool has_window = driver == nullptr || *driver == "raw" || driver->starts_with("null-");
  for (const std::string_view name : kSizes) {
    if (!has_window && (name == "size" || name == "offset")) {
      continue;  // an option that the driver does not have
    }
    if (const JsonValue* value = object.find(name); value != nullptr && value->is_number()) {
      put(object, name, to_text(JsonValue(*value)));
    }
    if (const std::string* text = text_of(object, name)) {
      const auto size = parse_size(*text);
      if (!size && size.error().code() == ERANGE) {
        return fail(ERANGE, "Value '{}' is out of range for parameter '{}'", *text, name);
      }
      if (!size) {
        return std::unexpected(
            Error(EINVAL,
                  fmt::format("Parameter '{}' expects a non-negative number below 2^64", name))
                .with_hint(
                    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                    "and exabytes, respectively."));
      }
      put(object, name, std::to_string(*size));
    }
  }
  return expand_server(object);
}

Result<schema::BlockdevOptions> decode_options(const block::Graph& graph,
                                               const JsonObject& object) {
  if (auto known = check_overlap_mode(object); !known) {
    return std::unexpected(known.error());
  }
  const JsonValue value = as_text(object);
  schema::Reading reading{.form = schema::InputForm::kKeyval, .error = {}};
  schema::BlockdevOptions options;
  if (schema::read(schema::Input(reading, value), options)) {
    return options;
  }
  const std::string& message = reading.error->message();
  std::string_view unknown = subject_of(message, "Parameter '", "' is unexpected");
  if (unknown.empty()) {
    // A value in the place of several options.
    unknown = subject_of(message, "Invalid parameter type for '", "', expected: object");
  }
  if (!unknown.empty() && unknown != "server") {
    return std::unexpected(unknown_option(graph, object, unknown));
  }
  const JsonValue* number =
      value_at(*value.as_object(), subject_of(message, "Parameter '", "' expects integer"));
  const std::string* text = number != nullptr ? number->as_string() : nullptr;
  return fail(reading.error->code(), "{}", in_words_of_tools(message, text ? *text : ""));
}

Error unknown_option(const block::Graph& graph, const JsonObject& root, std::string_view path) {
  const OptionOfDriver found = find_driver(root, path);
  if (found.rest.starts_with("server.")) {
    return Error(EINVAL,
                 in_words_of_tools(fmt::format("Parameter '{}' is unexpected", found.rest)));
  }
  if (constexpr std::string_view kEncrypt = "encrypt."; found.rest.starts_with(kEncrypt)) {
    return Error(EINVAL,
                 fmt::format("Parameter '{}' is unexpected", found.rest.substr(kEncrypt.size())));
  }
  const block::DriverInfo* info = driver_of(graph, *found.object);
  if (info == nullptr) {
    return Error(EINVAL, fmt::format("Parameter '{}' is unexpected", path));
  }
  const std::string name = whole_path(*found.object, found.rest);
  const std::string_view words = info->kind == block::DriverInfo::Kind::kProtocol
                                     ? "Block protocol '{}' doesn't support the option '{}'"
                                     : "Block format '{}' does not support the option '{}'";
  std::string message = fmt::format(fmt::runtime(words), info->name, name);
  for (constexpr std::string_view kBelow = "backing."; path.starts_with(kBelow);
       path.remove_prefix(kBelow.size())) {
    message.insert(0, kAboutBacking);
  }
  return Error(EINVAL, std::move(message));
}

std::string unknown_option_of(const Error& error) {
  constexpr std::string_view kEnds[] = {" does not support the option '",
                                        " doesn't support the option '"};
  const std::string_view message = error.message();
  if (!message.starts_with("Block ")) {
    return {};
  }
  for (const std::string_view words : kEnds) {
    if (const size_t found = message.find(words); found != message.npos) {
      const std::string_view rest = message.substr(found + words.size());
      return std::string(rest.substr(0, rest.find('\'')));
    }
  }
  return {};
}

Result<JsonObject> parse_json_name(std::string_view name) {
  const Result<JsonValue> value = schema::parse_json(name.substr(name.find(':') + 1));
  if (!value) {
    return fail(EINVAL, "Could not parse the JSON options: {}", value.error().message());
  }
  if (value->as_object() == nullptr) {
    return fail(EINVAL, "Invalid JSON object given");
  }
  JsonObject options;
  // What is said within an object counts more than what names with dots say.
  for (const bool within : {false, true}) {
    for (const auto& [key, member] : *value->as_object()) {
      if (member.is_object() == within) {
        add_unfolded(options, key, member);
      }
    }
  }
  const JsonValue listed = with_lists(options);
  return listed.as_object() != nullptr ? *listed.as_object() : options;
}

Result<JsonObject> parse_option_string(std::string_view text, std::string_view implied_key) {
  if (text.empty()) {
    return JsonObject();
  }
  std::string_view rest = text;
  JsonObject options;
  std::string list;  // of what has a value
  for (bool first = true; !rest.empty(); first = false) {
    const std::string_view before = rest;
    const std::string part = schema::take_keyval_part(rest);
    if (part.find('=') != part.npos) {
      if (!first || !part.starts_with('=')) {
        list.append(list.empty() ? "" : ",").append(before.substr(0, before.size() - rest.size()));
        list.resize(list.size() - (rest.empty() ? 0 : 1));
      }
    } else if (first && !implied_key.empty()) {
      options.add(std::string(implied_key), part);  // whatever it is
    } else if (!part.empty() && part != "help" && part != "?") {
      report_warning(fmt::format("short-form boolean option '{0}' deprecated", part),
                     fmt::format("Please use {}=on instead\n", part));
      put(options, part, "on");
    }
  }
  if (list.empty()) {
    return options;
  }
  Result<JsonValue> parsed = schema::parse_keyval(list, "");
  if (!parsed) {
    return pass(parsed);
  }
  for (const auto& [name, value] : *parsed->as_object()) {
    if (name == implied_key && options.find(name) != nullptr) {
      return fail(EINVAL,
                  "Cannot reference an existing block device with additional options or a new "
                  "filename");
    }
    put(options, name, value);
  }
  return options;
}

}  // namespace cairn::tools
