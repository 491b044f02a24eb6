// Command line values of the form "driver=qcow2,node-name=d,file.driver=file,file.filename=a.img".
//
// A key is a path of names and list indices, separated by dots; a comma in a value is written
// twice. Every scalar becomes a string; the schema's types say what to make of it.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "schema/json.h"

namespace cairn::schema {

// Parses `text` into a tree of objects, arrays and strings. A first part without '=' is the value
// of `implied_key`, unless that is empty. The last of several values for one key counts.
[[nodiscard]] Result<JsonValue> parse_keyval(std::string_view text, std::string_view implied_key);

// Takes what stands before the next single comma from `rest`, and the comma; two commas are one
// that belongs to it.
[[nodiscard]] std::string take_keyval_part(std::string_view& rest);

}  // namespace cairn::schema
