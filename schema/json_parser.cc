// Recursive descent over tokens. Members of an object are parsed as values first, so that an error
// says what is missing before it says that a name must be a string.
#include "schema/json_parser.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "schema/utf8.h"

namespace cairn::schema {

namespace {

std::unexpected<Error> parse_error(std::string_view message) {
  return fail(EINVAL, "JSON parse error, {}", message);
}

JsonValue to_number(std::string_view text) {
  const char* end = text.data() + text.size();
  int64_t small = 0;
  const auto parsed = std::from_chars(text.data(), end, small);
  if (parsed.ptr == end) {
    if (parsed.ec == std::errc()) {
      return small;
    }
    uint64_t big = 0;
    if (text[0] != '-' && std::from_chars(text.data(), end, big).ec == std::errc()) {
      return big;
    }
  }
  double number = 0;
  if (std::from_chars(text.data(), end, number).ec != std::errc()) {
    // Too large or too small for a double: the nearest one.
    const bool tiny = text.find("e-") != text.npos || text.find("E-") != text.npos;
    number = tiny ? 0 : std::numeric_limits<double>::max();
    number = text[0] == '-' ? -number : number;
  }
  return number;
}

std::optional<uint32_t> hex4(std::string_view digits) {
  uint32_t value = 0;
  if (digits.size() < 4) {
    return std::nullopt;
  }
  const auto result = std::from_chars(digits.data(), digits.data() + 4, value, 16);
  return result.ptr == digits.data() + 4 ? std::optional(value) : std::nullopt;
}

// Decodes what stands between the quotes.
class StringDecoder {
 public:
  explicit StringDecoder(std::string_view token) : rest_(token.substr(1)) {}

  Result<std::string> decode() {
    // What is left at the end is the closing quote.
    while (rest_.size() > 1) {
      const auto step = rest_[0] == '\\' ? escape() : character();
      if (!step) {
        return std::unexpected(step.error());
      }
    }
    return std::move(out_);
  }

 private:
  Result<void> character() {
    const uint32_t code_point = take_code_point(rest_);
    if (code_point == kBadCodePoint || rest_.empty()) {
      return parse_error("invalid UTF-8 sequence in string");
    }
    append_utf8(out_, code_point);
    return {};
  }

  Result<void> escape() {
    constexpr std::string_view kLetters = "\"'\\/bfnrt";
    constexpr std::string_view kMeanings = "\"'\\/\b\f\n\r\t";
    const char letter = rest_[1];
    rest_.remove_prefix(2);
    if (letter == 'u') {
      return unicode();
    }
    const size_t index = kLetters.find(letter);
    if (index == kLetters.npos) {
      return parse_error("invalid escape sequence in string");
    }
    out_ += kMeanings[index];
    return {};
  }

  // \uXXXX, or two of them for a character beyond U+FFFF.
  Result<void> unicode() {
    const std::string_view digits = rest_.substr(0, 4);
    const std::optional<uint32_t> first = hex4(digits);
    uint32_t code_point = first.value_or(kBadCodePoint);
    size_t used = 4;
    if (first && (*first & 0xfc00) == 0xd800 && rest_.substr(4, 2) == "\\u") {
      const std::optional<uint32_t> second = hex4(rest_.substr(6));
      if (second && (*second & 0xfc00) == 0xdc00) {
        code_point = 0x10000 + ((*first & 0x3ff) << 10) + (*second & 0x3ff);
        used = 10;
      }
    }
    if (!is_character(code_point)) {
      return fail(EINVAL, "JSON parse error, \\u{} is not a valid Unicode character", digits);
    }
    rest_.remove_prefix(used);
    append_utf8(out_, code_point);
    return {};
  }

  std::string_view rest_;
  std::string out_;
};

class Parser {
 public:
  Parser(std::string_view text, std::span<const JsonToken> tokens) : text_(text), rest_(tokens) {}

  Result<JsonValue> value() {
    if (rest_.empty()) {
      return parse_error("premature EOI");
    }
    const JsonToken token = rest_.front();
    rest_ = rest_.subspan(1);
    const std::string_view spelled = text_.substr(token.offset, token.length);
    switch (token.kind) {
      case JsonTokenKind::kOpenBrace:
        return object();
      case JsonTokenKind::kOpenBracket:
        return array();
      case JsonTokenKind::kString:
        return string(spelled);
      case JsonTokenKind::kNumber:
        return to_number(spelled);
      case JsonTokenKind::kWord:
        return word(spelled);
      default:
        return parse_error("expecting value");
    }
  }

 private:
  // Takes the next token if it is of this kind.
  bool accept(JsonTokenKind kind) {
    if (rest_.empty() || rest_.front().kind != kind) {
      return false;
    }
    rest_ = rest_.subspan(1);
    return true;
  }

  std::unexpected<Error> unless_end(std::string_view message) const {
    return parse_error(rest_.empty() ? "premature EOI" : message);
  }

  static Result<JsonValue> string(std::string_view token) {
    Result<std::string> decoded = StringDecoder(token).decode();
    if (!decoded) {
      return pass(decoded);
    }
    return JsonValue(std::move(*decoded));
  }

  static Result<JsonValue> word(std::string_view word) {
    if (word == "null") {
      return JsonValue();
    }
    if (word == "true" || word == "false") {
      return JsonValue(word == "true");
    }
    return fail(EINVAL, "JSON parse error, invalid keyword '{}'", word);
  }

  Result<JsonValue> array() {
    JsonArray elements;
    if (accept(JsonTokenKind::kCloseBracket)) {
      return JsonValue(std::move(elements));
    }
    while (true) {
      Result<JsonValue> element = value();
      if (!element) {
        return element;
      }
      elements.push_back(std::move(*element));
      if (accept(JsonTokenKind::kCloseBracket)) {
        return JsonValue(std::move(elements));
      }
      if (!accept(JsonTokenKind::kComma)) {
        return unless_end("expected separator in list");
      }
    }
  }

  Result<void> member(JsonObject& object) {
    Result<JsonValue> name = value();
    if (!name) {
      return pass(name);
    }
    if (!name->is_string()) {
      return parse_error("key is not a string in object");
    }
    if (!accept(JsonTokenKind::kColon)) {
      return unless_end("missing : in object pair");
    }
    Result<JsonValue> held = value();
    if (!held) {
      return pass(held);
    }
    object.add(*name->as_string(), std::move(*held));
    return {};
  }

  Result<JsonValue> object() {
    JsonObject members;
    if (accept(JsonTokenKind::kCloseBrace)) {
      return JsonValue(std::move(members));
    }
    while (true) {
      if (Result<void> added = member(members); !added) {
        return pass(added);
      }
      if (accept(JsonTokenKind::kCloseBrace)) {
        break;
      }
      if (!accept(JsonTokenKind::kComma)) {
        return unless_end("expected separator in dict");
      }
    }
    if (has_duplicates(members)) {
      return parse_error("duplicate key");
    }
    return JsonValue(std::move(members));
  }

  static bool has_duplicates(const JsonObject& object) {
    std::vector<std::string_view> names;
    names.reserve(object.size());
    for (const auto& [name, value] : object) {
      names.emplace_back(name);
    }
    std::ranges::sort(names);
    return std::ranges::adjacent_find(names) != names.end();
  }

  std::string_view text_;
  std::span<const JsonToken> rest_;
};

}  // namespace

Result<JsonValue> parse_json_tokens(std::string_view text, std::span<const JsonToken> tokens) {
  return Parser(text, tokens).value();
}

}  // namespace cairn::schema
