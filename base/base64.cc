#include "base/base64.h"

#include <cerrno>
#include <cstdint>

namespace cairn {

namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kWrong = "Base64 data contains invalid characters";

}  // namespace

Result<std::string> decode_base64(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  uint32_t held = 0;  // the bits that do not fill a byte yet
  int bits = 0;
  bool padded = false;
  for (const char c : text) {
    if (c == '\n' || c == '\r') {
      continue;
    }
    const size_t value = kAlphabet.find(c);
    if (c == '=') {
      padded = true;
    } else if (value == kAlphabet.npos || padded) {
      return fail(EINVAL, "{}", kWrong);
    } else {
      held = held << 6 | static_cast<uint32_t>(value);
      bits += 6;
      if (bits >= 8) {
        bits -= 8;
        bytes += static_cast<char>(held >> bits & 0xff);
      }
    }
  }
  return bytes;
}

std::string encode_base64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t at = 0; at < bytes.size(); at += 3) {
    const std::string_view group = bytes.substr(at, 3);
    uint32_t bits = 0;
    for (size_t i = 0; i < 3; ++i) {
      bits = bits << 8 | (i < group.size() ? static_cast<unsigned char>(group[i]) : 0);
    }
    for (size_t i = 0; i < 4; ++i) {
      text += i <= group.size() ? kAlphabet[bits >> (18 - 6 * i) & 63] : '=';
    }
  }
  return text;
}

}  // namespace cairn
