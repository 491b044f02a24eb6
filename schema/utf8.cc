// UTF-8 as RFC 3629 defines it, with C0 80 for U+0000.
#include "schema/utf8.h"

#include <cstddef>

#include <fmt/format.h>

namespace cairn::schema {

namespace {

// The length that the first byte promises, 0 when it can not start a character.
size_t promised_length(uint8_t first) {
  if (first < 0x80) {
    return 1;
  }
  if (first >= 0xc0 && first < 0xe0) {
    return 2;
  }
  if (first >= 0xe0 && first < 0xf0) {
    return 3;
  }
  return first >= 0xf0 && first < 0xf8 ? 4 : 0;
}

}  // namespace

bool is_character(uint32_t code_point) {
  const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
  const bool non_character =
      (code_point >= 0xfdd0 && code_point <= 0xfdef) || (code_point & 0xfffe) == 0xfffe;
  return code_point <= 0x10ffff && !surrogate && !non_character;
}

uint32_t take_code_point(std::string_view& text) {
  const auto first = static_cast<uint8_t>(text[0]);
  const size_t length = promised_length(first);
  if (length <= 1) {
    text.remove_prefix(1);
    return length == 1 ? first : kBadCodePoint;
  }
  constexpr uint8_t kFirstBits[] = {0, 0, 0x1f, 0x0f, 0x07};
  constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  uint32_t code_point = first & kFirstBits[length];
  for (size_t i = 1; i < length; ++i) {
    if (i >= text.size() || (static_cast<uint8_t>(text[i]) & 0xc0) != 0x80) {
      text.remove_prefix(i);
      return kBadCodePoint;
    }
    code_point = code_point << 6 | (static_cast<uint8_t>(text[i]) & 0x3f);
  }
  text.remove_prefix(length);
  if (code_point == 0 && length == 2) {
    return 0;
  }
  return code_point < kSmallest[length] || !is_character(code_point) ? kBadCodePoint : code_point;
}

void append_utf8(std::string& out, uint32_t code_point) {
  const auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (code_point == 0) {
    out += "\xc0\x80";
  } else if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xc0 | code_point >> 6);
    put(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    put(0xe0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3f));
    put(0x80 | (code_point & 0x3f));
  } else {
    put(0xf0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3f));
    put(0x80 | (code_point >> 6 & 0x3f));
    put(0x80 | (code_point & 0x3f));
  }
}

void append_escaped(std::string& out, uint32_t code_point) {
  switch (code_point) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\b':
      out += "\\b";
      return;
    case '\f':
      out += "\\f";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\r':
      out += "\\r";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      break;
  }
  if (code_point == kBadCodePoint) {
    code_point = kReplacementCharacter;
  }
  if (code_point >= 0x20 && code_point < 0x7f) {
    out += static_cast<char>(code_point);
  } else if (code_point >= 0x10000) {
    const uint32_t rest = code_point - 0x10000;
    out += fmt::format("\\u{:04X}\\u{:04X}", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
  } else {
    out += fmt::format("\\u{:04X}", code_point);
  }
}

}  // namespace cairn::schema
