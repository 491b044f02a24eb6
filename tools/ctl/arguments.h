// From words on a command line to the arguments of a command, by the daemon's own schema.
//
// A word is KEY=VALUE with a dotted key (file.driver=file, actions.0.type=abort), or a whole JSON
// object. A value is read as its type asks for: numbers may have a size's suffix, booleans are on
// and off or true and false, and lists and objects may be JSON. A key that is given several times
// makes a list.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "schema/json.h"
#include "tools/ctl/schema.h"

namespace cairn::ctl {

// Checks all there is to check: names, types, and that nothing is missing.
[[nodiscard]] Result<schema::JsonValue> typed_arguments(const SchemaCommand& command,
                                                        std::span<const std::string> words);

// What a value of `type` may be, for messages and help: "number", "on or off", "one of a, b".
[[nodiscard]] std::string describe_type(const SchemaType& type);

}  // namespace cairn::ctl
