#include "base/identifier.h"

#include <algorithm>

namespace cairn {

bool is_identifier(std::string_view text) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto may_follow = [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  };
  return !text.empty() && is_letter(text[0]) && std::ranges::all_of(text, may_follow);
}

}  // namespace cairn
