// Two steps: the words become a tree of what was given, then the tree is read by the types.
#include "tools/ctl/arguments.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/size_text.h"
#include "schema/json_stream.h"
#include "tools/ctl/given.h"

namespace cairn::ctl {

namespace {

using schema::JsonArray;
using schema::JsonObject;
using schema::JsonValue;
using Typed = Result<JsonValue>;

Typed typed(const SchemaType& type, const Given& given, const std::string& path);

std::unexpected<Error> mismatch(const SchemaType& type, const Given& given,
                                const std::string& path) {
  return fail(EINVAL, "'{}' is {}, not {}", path, describe_type(type), given.spelled());
}

std::string below(const std::string& path, std::string_view name) {
  return path.empty() ? std::string(name) : fmt::format("{}.{}", path, name);
}

std::optional<JsonValue> read_integer(std::string_view text) {
  int64_t number = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (parsed.ec == std::errc() && parsed.ptr == end) {
    return JsonValue(number);
  }
  const auto size = parse_size(text);
  return size ? std::optional<JsonValue>(*size) : std::nullopt;
}

std::optional<JsonValue> read_number(std::string_view text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  return parsed.ec == std::errc() && parsed.ptr == end ? std::optional<JsonValue>(number)
                                                       : std::nullopt;
}

std::optional<JsonValue> read_boolean(std::string_view text) {
  if (text == "on" || text == "true" || text == "yes") {
    return JsonValue(true);
  }
  if (text == "off" || text == "false" || text == "no") {
    return JsonValue(false);
  }
  return std::nullopt;
}

// A word, as the builtin type asks for it.
std::optional<JsonValue> read_word(const SchemaType& type, const std::string& text) {
  if (type.json == "string") {
    return JsonValue(text);
  }
  if (type.json == "int") {
    return read_integer(text);
  }
  if (type.json == "number") {
    return read_number(text);
  }
  if (type.json == "boolean") {
    return read_boolean(text);
  }
  if (type.json == "null") {
    return text == "null" ? std::optional<JsonValue>(nullptr) : std::nullopt;
  }
  // Anything goes: JSON where it is that.
  auto parsed = schema::parse_json(text);
  return parsed ? std::move(*parsed) : JsonValue(text);
}

bool has_json_type(const SchemaType& type, const JsonValue& value) {
  return type.is("value") || (type.is("string") && value.is_string()) ||
         (type.is("int") && value.is_integer()) || (type.is("number") && value.is_number()) ||
         (type.is("boolean") && value.is_bool()) || (type.is("null") && value.is_null());
}

Typed typed_builtin(const SchemaType& type, const Given& given, const std::string& path) {
  if (given.kind == Given::Kind::kWord) {
    auto value = read_word(type, given.text);
    return value ? Typed(std::move(*value)) : mismatch(type, given, path);
  }
  if (type.is("value")) {
    return given.to_json();
  }
  if (given.kind != Given::Kind::kScalar || !has_json_type(type, given.scalar)) {
    return mismatch(type, given, path);
  }
  return given.scalar;
}

Typed typed_enum(const SchemaType& type, const Given& given, const std::string& path) {
  const std::string* text = given.as_text();
  if (!text) {
    return mismatch(type, given, path);
  }
  if (std::ranges::find(type.values, *text) == type.values.end()) {
    const std::string guess = nearest(*text, type.values);
    if (!guess.empty()) {
      return fail(EINVAL, "'{}' can not be '{}'; did you mean '{}'?", path, *text, guess);
    }
    return mismatch(type, given, path);
  }
  return JsonValue(*text);
}

// A word in JSON where a list or an object belongs.
Result<Given> parse_structure(const SchemaType& type, const Given& given, const std::string& path,
                              char opening) {
  if (!given.text.starts_with(opening)) {
    return mismatch(type, given, path);
  }
  auto parsed = schema::parse_json(given.text);
  if (!parsed) {
    return pass(parsed, "'" + path + "': ");
  }
  return Given::of(*parsed);
}

Typed typed_array(const SchemaType& type, const Given& given, const std::string& path) {
  if (given.kind == Given::Kind::kWord && given.text.starts_with('[')) {
    auto parsed = parse_structure(type, given, path, '[');
    return parsed ? typed_array(type, *parsed, path) : pass(parsed);
  }
  JsonArray array;
  if (given.kind == Given::Kind::kWord) {
    // A list of one.
    auto element = typed(*type.element, given, path);
    if (!element) {
      return element;
    }
    array.push_back(std::move(*element));
    return array;
  }
  const auto elements = given.as_list();
  if (!elements) {
    return mismatch(type, given, path);
  }
  for (size_t i = 0; i < elements->size(); ++i) {
    auto element = typed(*type.element, *(*elements)[i], fmt::format("{}.{}", path, i));
    if (!element) {
      return element;
    }
    array.push_back(std::move(*element));
  }
  return array;
}

// Appends the members that an object of `type` may have, given what its tags say.
Result<void> collect_members(const SchemaType& type, const Given& given, const std::string& path,
                             std::vector<const SchemaMember*>& members) {
  for (const SchemaMember& member : type.members) {
    members.push_back(&member);
  }
  if (type.tag.empty()) {
    return {};
  }
  const SchemaMember* tag = type.find_member(type.tag);
  const Given* value = given.find(type.tag);
  if (!tag) {
    return fail(EPROTO, "The daemon's schema contradicts itself: there is no tag '{}'", type.tag);
  }
  if (!value) {
    return tag->optional ? Result<void>()
                         : fail(EINVAL, "'{}' is missing: {}", below(path, type.tag),
                                describe_type(*tag->type));
  }
  auto checked = typed(*tag->type, *value, below(path, type.tag));
  if (!checked) {
    return pass(checked);
  }
  const SchemaType* variant = type.find_variant(*value->as_text());
  return variant ? collect_members(*variant, given, path, members) : Result<void>();
}

std::unexpected<Error> unknown_member(const std::vector<const SchemaMember*>& members,
                                      const std::string& name, const std::string& path) {
  std::vector<std::string> names;
  for (const SchemaMember* member : members) {
    names.push_back(member->name);
  }
  const std::string guess = nearest(name, names);
  if (!guess.empty()) {
    return fail(EINVAL, "There is no '{}'; did you mean '{}'?", below(path, name),
                below(path, guess));
  }
  if (names.empty()) {
    return fail(EINVAL, "There is no '{}': nothing is to be given here", below(path, name));
  }
  return fail(EINVAL, "There is no '{}'; there are: {}", below(path, name), fmt::join(names, ", "));
}

Typed typed_object(const SchemaType& type, const Given& given, const std::string& path) {
  if (given.kind == Given::Kind::kWord) {
    auto parsed = parse_structure(type, given, path, '{');
    return parsed ? typed_object(type, *parsed, path) : pass(parsed);
  }
  if (given.kind != Given::Kind::kObject) {
    return mismatch(type, given, path);
  }
  std::vector<const SchemaMember*> members;
  auto collected = collect_members(type, given, path, members);
  if (!collected) {
    return pass(collected);
  }
  JsonObject object;
  for (const auto& [name, value] : given.members) {
    const auto at = std::ranges::find(members, name, &SchemaMember::name);
    if (at == members.end()) {
      return unknown_member(members, name, path);
    }
    auto member = typed(*(*at)->type, value, below(path, name));
    if (!member) {
      return member;
    }
    object.add(name, std::move(*member));
  }
  std::vector<std::string> missing;
  for (const SchemaMember* member : members) {
    if (!member->optional && !object.find(member->name)) {
      missing.push_back(fmt::format("'{}'", below(path, member->name)));
    }
  }
  if (!missing.empty()) {
    return fail(EINVAL, "{} {} missing", fmt::join(missing, ", "),
                missing.size() == 1 ? "is" : "are");
  }
  return object;
}

// Whether a value that looks like `given` is for this branch at all; what is wrong inside it is
// said later.
bool suits(const SchemaType& branch, const Given& given) {
  using Kind = SchemaType::Kind;
  const bool word = given.kind == Given::Kind::kWord;
  switch (branch.kind) {
    case Kind::kObject:
      return given.kind == Given::Kind::kObject || (word && given.text.starts_with('{'));
    case Kind::kArray:
      return given.kind == Given::Kind::kList || (word && given.text.starts_with('['));
    case Kind::kEnum:
      return given.as_text() &&
             std::ranges::find(branch.values, *given.as_text()) != branch.values.end();
    case Kind::kAlternate:
      return std::ranges::any_of(branch.branches,
                                 [&](const SchemaType* inner) { return suits(*inner, given); });
    case Kind::kBuiltin:
      break;
  }
  return branch.is("value") || (word && read_word(branch, given.text)) ||
         (given.kind == Given::Kind::kScalar && has_json_type(branch, given.scalar));
}

// A string takes whatever a word says, so that it comes last.
Typed typed_alternate(const SchemaType& type, const Given& given, const std::string& path) {
  for (const bool strings : {false, true}) {
    for (const SchemaType* branch : type.branches) {
      if (branch->is("string") == strings && suits(*branch, given)) {
        return typed(*branch, given, path);
      }
    }
  }
  return mismatch(type, given, path);
}

Typed typed(const SchemaType& type, const Given& given, const std::string& path) {
  switch (type.kind) {
    case SchemaType::Kind::kEnum:
      return typed_enum(type, given, path);
    case SchemaType::Kind::kArray:
      return typed_array(type, given, path);
    case SchemaType::Kind::kObject:
      return typed_object(type, given, path);
    case SchemaType::Kind::kAlternate:
      return typed_alternate(type, given, path);
    case SchemaType::Kind::kBuiltin:
      break;
  }
  return typed_builtin(type, given, path);
}

}  // namespace

std::string describe_type(const SchemaType& type) {
  switch (type.kind) {
    case SchemaType::Kind::kEnum:
      return fmt::format("one of {}", fmt::join(type.values, ", "));
    case SchemaType::Kind::kArray:
      return "a list";
    case SchemaType::Kind::kObject:
      return "an object";
    case SchemaType::Kind::kAlternate: {
      std::vector<std::string> parts;
      for (const SchemaType* branch : type.branches) {
        parts.push_back(describe_type(*branch));
      }
      return fmt::format("{}", fmt::join(parts, " or "));
    }
    case SchemaType::Kind::kBuiltin:
      break;
  }
  return type.json == "string"    ? "a text"
         : type.json == "int"     ? "a whole number"
         : type.json == "number"  ? "a number"
         : type.json == "boolean" ? "on or off"
         : type.json == "null"    ? "null"
                                  : "any JSON value";
}

Result<JsonValue> typed_arguments(const SchemaCommand& command,
                                  std::span<const std::string> words) {
  auto given = gather(words);
  if (!given) {
    return pass(given);
  }
  return typed(*command.arguments, *given, "");
}

}  // namespace cairn::ctl
