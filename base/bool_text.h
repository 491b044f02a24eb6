// Booleans as people write them on command lines and in rule files.
#pragma once

#include <optional>
#include <string_view>

namespace cairn {

// "on", "yes", "true" and "y", and their opposites; nothing for any other text.
[[nodiscard]] std::optional<bool> parse_bool(std::string_view text);

}  // namespace cairn
