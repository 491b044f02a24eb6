// Identifiers as ids of objects and devices have to be.
#pragma once

#include <string_view>

namespace cairn {

// Letters, digits and "-._", a letter first.
[[nodiscard]] bool is_identifier(std::string_view text);

inline constexpr std::string_view kIdentifierHint =
    "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.";

}  // namespace cairn
