// Builds a value from the tokens that JsonStream found.
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"
#include "schema/json.h"
#include "schema/json_stream.h"

namespace cairn::schema {

// The value that `tokens`, parts of `text`, spell. The caller has bounded the depth.
[[nodiscard]] Result<JsonValue> parse_json_tokens(std::string_view text,
                                                  std::span<const JsonToken> tokens);

}  // namespace cairn::schema
