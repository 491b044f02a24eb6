// Properties that are members of an object's class.
//
//     const Property Secret::kProperties[] = {field<&Secret::data_>("data", "string")};
//
// The visitors of the member's type are included by the file that uses this.
#pragma once

#include <string_view>
#include <utility>

#include "objects/object.h"
#include "schema/visit_containers.h"

namespace cairn::objects {

// A T from the value that a property is to have.
template <typename T>
[[nodiscard]] Result<T> decode_property(std::string_view name, const schema::JsonValue& value) {
  schema::Reading reading;
  const schema::Input root(reading, value);
  T out{};
  if (!read(schema::Input(root, name, value), out)) {
    return std::unexpected(std::move(*reading.error));
  }
  return out;
}

namespace detail {

template <typename Member>
struct MemberOf;
template <typename C, typename T>
struct MemberOf<T C::*> {
  using Class = C;
  using Value = T;
};

template <auto Field>
schema::JsonValue get_member(const Object& object) {
  using schema::to_json;
  using Class = typename MemberOf<decltype(Field)>::Class;
  return to_json(static_cast<const Class&>(object).*Field);
}

template <auto Field>
Result<void> set_member(Object& object, std::string_view name, const schema::JsonValue& value) {
  using Member = MemberOf<decltype(Field)>;
  auto decoded = decode_property<typename Member::Value>(name, value);
  if (!decoded) {
    return pass(decoded);
  }
  static_cast<typename Member::Class&>(object).*Field = std::move(*decoded);
  return {};
}

}  // namespace detail

template <auto Field>
[[nodiscard]] constexpr Property field(std::string_view name, std::string_view type) {
  return {name, type, &detail::get_member<Field>, &detail::set_member<Field>};
}

template <auto Field>
[[nodiscard]] constexpr Property constant_field(std::string_view name, std::string_view type) {
  return {name, type, &detail::get_member<Field>, nullptr};
}

}  // namespace cairn::objects
