// Looking into JSON that somebody else has made. What is missing, or of another type, reads as
// nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "schema/json.h"

namespace cairn::ctl {

[[nodiscard]] std::string text_in(const schema::JsonObject& object, std::string_view name);
// The same, clean for a terminal.
[[nodiscard]] std::string clean_text_in(const schema::JsonObject& object, std::string_view name);
[[nodiscard]] int64_t number_in(const schema::JsonObject& object, std::string_view name,
                                int64_t otherwise);
[[nodiscard]] bool flag_in(const schema::JsonObject& object, std::string_view name);
// Null when there is none.
[[nodiscard]] const schema::JsonObject* object_in(const schema::JsonObject& object,
                                                  std::string_view name);
[[nodiscard]] const schema::JsonArray& array_in(const schema::JsonObject& object,
                                                std::string_view name);
// The objects among the elements of a list; `list` may be null.
[[nodiscard]] std::vector<const schema::JsonObject*> objects_in(const schema::JsonValue* list);

}  // namespace cairn::ctl
