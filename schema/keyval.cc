// Two steps: the text becomes a tree of objects, whose objects that have only indices for names
// become arrays afterwards.
#include "schema/keyval.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace cairn::schema {

namespace {

constexpr size_t kMaxNameLength = 127;
// Deep trees are walked recursively.
constexpr size_t kMaxDepth = 256;

bool is_decimal(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool is_index(std::string_view part) {
  return !part.empty() && std::ranges::all_of(part, is_decimal);
}

bool is_name(std::string_view part) {
  // Names with two underscores in front belong to vendors.
  return !part.empty() && (is_letter(part[0]) || part.starts_with("__")) &&
         std::ranges::all_of(
             part, [](char c) { return is_letter(c) || is_decimal(c) || c == '-' || c == '_'; });
}

Result<std::vector<std::string_view>> split_key(std::string_view key) {
  std::vector<std::string_view> parts;
  std::string_view rest = key;
  while (true) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    if (!is_name(part) && (parts.empty() || !is_index(part))) {
      return fail(EINVAL, "Invalid parameter '{}'", key);
    }
    if (part.size() > kMaxNameLength || parts.size() >= kMaxDepth) {
      return fail(EINVAL, "Parameter{} '{}' is too long", parts.empty() ? "" : " fragment", part);
    }
    parts.push_back(part);
    if (dot == rest.npos) {
      return parts;
    }
    rest.remove_prefix(dot + 1);
  }
}

std::string joined(const std::vector<std::string_view>& parts, size_t count) {
  std::string path;
  for (size_t i = 0; i < count; ++i) {
    path += i > 0 ? "." : "";
    path += parts[i];
  }
  return path;
}

std::unexpected<Error> inconsistent(const std::string& path) {
  return fail(EINVAL, "Parameters '{}.*' used inconsistently", path);
}

Result<void> store(JsonObject& root, std::string_view key, std::string value) {
  auto parts = split_key(key);
  if (!parts) {
    return pass(parts);
  }
  JsonObject* at = &root;
  for (size_t i = 0; i + 1 < parts->size(); ++i) {
    JsonValue* next = at->find((*parts)[i]);
    if (!next) {
      at->add(std::string((*parts)[i]), JsonObject());
      next = at->find((*parts)[i]);
    } else if (!next->is_object()) {
      return inconsistent(joined(*parts, i + 1));
    }
    at = next->as_object();
  }
  JsonValue* old = at->find(parts->back());
  if (!old) {
    at->add(std::string(parts->back()), std::move(value));
  } else if (old->is_object()) {
    return inconsistent(std::string(key));
  } else {
    *old = std::move(value);
  }
  return {};
}

// The members of an object whose names are all indices, as an array; they must be 0, 1, 2, …
Result<JsonValue> to_array(const JsonObject& object, const std::string& path) {
  std::vector<std::pair<uint64_t, const JsonValue*>> elements;
  for (const auto& [name, value] : object) {
    uint64_t index = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), index).ec != std::errc()) {
      index = UINT64_MAX;
    }
    elements.emplace_back(index, &value);
  }
  std::ranges::sort(elements, {}, &std::pair<uint64_t, const JsonValue*>::first);
  JsonArray array;
  for (const auto& [index, value] : elements) {
    // An index that is spelled in two ways, as 0 and 00, leaves a gap further on.
    if (index != array.size()) {
      return fail(EINVAL, "Parameter '{}.{}' missing", path, array.size());
    }
    array.push_back(*value);
  }
  return JsonValue(std::move(array));
}

// `value` with arrays where they belong; `path` leads to it.
Result<JsonValue> with_arrays(JsonValue value, const std::string& path) {
  const JsonObject* object = value.as_object();
  if (!object) {
    return value;
  }
  JsonObject result;
  size_t indices = 0;
  for (const auto& [name, held] : *object) {
    indices += is_index(name) ? 1 : 0;
    const std::string inner = path.empty() ? name : fmt::format("{}.{}", path, name);
    auto converted = with_arrays(held, inner);
    if (!converted) {
      return converted;
    }
    result.add(name, std::move(*converted));
  }
  if (indices == 0) {
    return JsonValue(std::move(result));
  }
  if (indices < result.size()) {
    return inconsistent(path);
  }
  return to_array(result, path);
}

}  // namespace

std::string take_keyval_part(std::string_view& rest) {
  std::string value;
  while (!rest.empty()) {
    const char c = rest.front();
    rest.remove_prefix(1);
    if (c == ',') {
      if (rest.empty() || rest.front() != ',') {
        break;
      }
      rest.remove_prefix(1);
    }
    value += c;
  }
  return value;
}

Result<JsonValue> parse_keyval(std::string_view text, std::string_view implied_key) {
  JsonObject root;
  std::string_view rest = text;
  bool first = true;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find_first_of("=,"), rest.size());
    const std::string_view key = rest.substr(0, end);
    const bool has_value = end < rest.size() && rest[end] == '=';
    if (!has_value && (key == "help" || key == "?")) {
      return fail(EINVAL, "Help is not available for this option");
    }
    Result<void> stored;
    if (!has_value && first && !implied_key.empty() && !key.empty()) {
      stored = store(root, implied_key, take_keyval_part(rest));
    } else if (!has_value && key.empty()) {
      return fail(EINVAL, "Invalid parameter ''");
    } else if (!has_value) {
      return fail(EINVAL, "Expected '=' after parameter '{}'", key);
    } else {
      rest.remove_prefix(end + 1);
      stored = store(root, key, take_keyval_part(rest));
    }
    if (!stored) {
      return pass(stored);
    }
    first = false;
  }
  return with_arrays(JsonValue(std::move(root)), "");
}

}  // namespace cairn::schema
