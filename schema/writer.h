// Writing typed structs as JSON: the part of it that is the same for all types.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "schema/builtin.h"
#include "schema/json.h"
#include "schema/type_list.h"

namespace cairn::schema {

[[nodiscard]] inline JsonValue to_json(const std::string& in) { return in; }
[[nodiscard]] inline JsonValue to_json(bool in) { return in; }
[[nodiscard]] inline JsonValue to_json(double in) { return in; }
[[nodiscard]] inline JsonValue to_json(int64_t in) { return in; }
[[nodiscard]] inline JsonValue to_json(uint64_t in) { return in; }
[[nodiscard]] inline JsonValue to_json(int8_t in) { return int64_t{in}; }
[[nodiscard]] inline JsonValue to_json(int16_t in) { return int64_t{in}; }
[[nodiscard]] inline JsonValue to_json(int32_t in) { return int64_t{in}; }
[[nodiscard]] inline JsonValue to_json(uint8_t in) { return int64_t{in}; }
[[nodiscard]] inline JsonValue to_json(uint16_t in) { return int64_t{in}; }
[[nodiscard]] inline JsonValue to_json(uint32_t in) { return int64_t{in}; }
[[nodiscard]] inline JsonValue to_json(const Null&) { return nullptr; }
[[nodiscard]] inline JsonValue to_json(const JsonValue& in) { return in; }
[[nodiscard]] inline JsonValue to_json(const NoArguments&) { return JsonObject(); }

template <typename E>
  requires std::is_enum_v<E>
[[nodiscard]] JsonValue to_json(E in) {
  return to_string(in);
}

}  // namespace cairn::schema
