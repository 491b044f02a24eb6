// Characters of JSON strings: decoding UTF-8 strictly, and escaping.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cairn::schema {

inline constexpr uint32_t kReplacementCharacter = 0xfffd;
// What take_code_point() reports for bytes that are not UTF-8.
inline constexpr uint32_t kBadCodePoint = 0xffffffff;

// Removes the first character from `text`, which must not be empty, and returns it. C0 80 counts as
// U+0000. Overlong forms, surrogates, non-characters and what is above U+10FFFF are bad.
[[nodiscard]] uint32_t take_code_point(std::string_view& text);

// Appends a valid code point in UTF-8; U+0000 becomes C0 80.
void append_utf8(std::string& out, uint32_t code_point);

// Appends a character as a JSON string spells it in ASCII; a bad one becomes U+FFFD.
void append_escaped(std::string& out, uint32_t code_point);

// Surrogates, non-characters and what is above U+10FFFF are no characters.
[[nodiscard]] bool is_character(uint32_t code_point);

}  // namespace cairn::schema
