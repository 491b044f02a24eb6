// Reading and writing what holds other types: arrays, boxes, optional members and branches.
// Included after the visitors of the types that are held.
#pragma once

#include <optional>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "schema/reader.h"
#include "schema/writer.h"

namespace cairn::schema {

template <typename T>
bool read(const Input& in, std::vector<T>& out) {
  const JsonArray* array = in.value().as_array();
  out.clear();
  if (!array) {
    return in.fail_mismatch("array");
  }
  out.reserve(array->size());
  for (size_t i = 0; i < array->size(); ++i) {
    if (!read(Input(in, i, (*array)[i]), out.emplace_back())) {
      return false;
    }
  }
  return true;
}

template <typename T>
bool read(const Input& in, Box<T>& out) {
  return read(in, *out);
}

template <typename T>
[[nodiscard]] JsonValue to_json(const std::vector<T>& in) {
  JsonArray out;
  out.reserve(in.size());
  for (const T& element : in) {
    out.push_back(to_json(element));
  }
  return out;
}

template <typename T>
[[nodiscard]] JsonValue to_json(const Box<T>& in) {
  return to_json(*in);
}

// Adds a member to `out`, unless it is optional and not there.
template <typename T>
void put(JsonObject& out, std::string_view name, const T& value) {
  out.add(std::string(name), to_json(value));
}
template <typename T>
void put(JsonObject& out, std::string_view name, const std::optional<T>& value) {
  if (value) {
    out.add(std::string(name), to_json(*value));
  }
}

inline void write_branch(JsonObject&, const std::monostate&) {}
template <typename T>
void write_branch(JsonObject& out, const T& branch) {
  write_members(out, branch);
}

// A T from a whole document.
template <typename T>
[[nodiscard]] Result<T> decode(const JsonValue& value, InputForm form = InputForm::kJson) {
  Reading reading{.form = form, .error = {}};
  T out{};
  if (!read(Input(reading, value), out)) {
    return std::unexpected(std::move(*reading.error));
  }
  return out;
}

}  // namespace cairn::schema
