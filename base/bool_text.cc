#include "base/bool_text.h"

namespace cairn {

std::optional<bool> parse_bool(std::string_view text) {
  for (const std::string_view yes : {"on", "yes", "true", "y"}) {
    if (text == yes) {
      return true;
    }
  }
  for (const std::string_view no : {"off", "no", "false", "n"}) {
    if (text == no) {
      return false;
    }
  }
  return std::nullopt;
}

}  // namespace cairn
