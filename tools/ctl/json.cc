#include "tools/ctl/json.h"

#include "tools/ctl/text.h"

namespace cairn::ctl {

using schema::JsonArray;
using schema::JsonObject;
using schema::JsonValue;

std::string text_in(const JsonObject& object, std::string_view name) {
  const JsonValue* value = object.find(name);
  return value && value->is_string() ? *value->as_string() : "";
}

std::string clean_text_in(const JsonObject& object, std::string_view name) {
  return clean(text_in(object, name));
}

int64_t number_in(const JsonObject& object, std::string_view name, int64_t otherwise) {
  const JsonValue* value = object.find(name);
  return value && value->as_int64() ? *value->as_int64() : otherwise;
}

bool flag_in(const JsonObject& object, std::string_view name) {
  const JsonValue* value = object.find(name);
  return value && value->as_bool() && *value->as_bool();
}

const JsonObject* object_in(const JsonObject& object, std::string_view name) {
  const JsonValue* value = object.find(name);
  return value ? value->as_object() : nullptr;
}

const JsonArray& array_in(const JsonObject& object, std::string_view name) {
  static const JsonArray kEmpty;
  const JsonValue* value = object.find(name);
  return value && value->is_array() ? *value->as_array() : kEmpty;
}

std::vector<const JsonObject*> objects_in(const JsonValue* list) {
  std::vector<const JsonObject*> objects;
  if (const JsonArray* array = list ? list->as_array() : nullptr) {
    for (const JsonValue& value : *array) {
      if (value.is_object()) {
        objects.push_back(value.as_object());
      }
    }
  }
  return objects;
}

}  // namespace cairn::ctl
