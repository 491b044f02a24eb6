// Objects from JSON text, as object-add gets them.
#pragma once

#include <string>
#include <string_view>

#include "objects/registry.h"
#include "schema/json_stream.h"
#include "schema/visit_containers.h"
#include "schema/visit_qom.h"

namespace cairn::objects {

// What is wrong; empty when the object was made.
inline std::string add(Registry& registry, std::string_view json) {
  const auto value = schema::parse_json(json);
  const auto options = schema::decode<schema::ObjectOptions>(value.value());
  if (!options) {
    return options.error().message();
  }
  const auto added = registry.add(*options);
  return added ? "" : added.error().message();
}

inline std::string get(const Registry& registry, std::string_view id, std::string_view name) {
  const auto object = registry.find(id);
  return to_text(object->type().find_property(name)->get(*object));
}

inline std::string set(const Registry& registry, std::string_view id, std::string_view name,
                       std::string_view json) {
  const auto object = registry.find(id);
  const auto changed =
      object->type().find_property(name)->set(*object, name, schema::parse_json(json).value());
  return changed ? "" : changed.error().message();
}

}  // namespace cairn::objects
