// JsonStream: finds the JSON values in a stream of bytes, and goes on after an error.
//
// A value is complete when its brackets balance, without waiting for what follows. After a byte
// that no token can hold, input is skipped up to the next structural character or line break.
// Limits hold for each value, so that a hostile stream costs bounded memory and stack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "schema/json.h"

namespace cairn::schema {

struct JsonLimits {
  size_t depth = 1024;
  // Of the text of one value, white space outside strings not counted.
  size_t bytes = size_t{4} << 20;
  size_t tokens = size_t{1} << 18;
};

enum class JsonTokenKind : uint8_t {
  kOpenBrace,
  kCloseBrace,
  kOpenBracket,
  kCloseBracket,
  kColon,
  kComma,
  kString,
  kNumber,
  kWord,
};

// A token is a part of the text of its value.
struct JsonToken {
  JsonTokenKind kind;
  uint32_t offset;
  uint32_t length;
};

class JsonStream {
 public:
  explicit JsonStream(JsonLimits limits = {}) : limits_(limits) {}

  // Takes bytes from the front of `input` up to the end of the first value or error and returns
  // that; nothing when `input` is used up before. `limits_.bytes` is below 4 GiB.
  [[nodiscard]] std::optional<Result<JsonValue>> next(std::string_view& input);

  // The stream has ended: what is left over of it, a value or an error.
  [[nodiscard]] std::optional<Result<JsonValue>> finish();

 private:
  enum class State : uint8_t {
    kBetween,
    kString,
    kEscape,
    kMinus,
    kZero,
    kDigits,
    kPoint,
    kFraction,
    kExponent,
    kExponentSign,
    kExponentDigits,
    kWord,
    kRecovery,
    kSkipLine,
  };
  enum class Step : uint8_t { kTaken, kTokenBefore, kTokenWith, kStray };

  Step step_between(char c);
  Step step_string(char c);
  Step step_number(char c);
  Step step(char c);
  std::optional<Result<JsonValue>> end_token();
  std::optional<Result<JsonValue>> count_structure(JsonTokenKind kind);
  Result<JsonValue> stray();
  Result<JsonValue> over_limit(std::string_view what);
  Result<JsonValue> parse_tokens();
  void reset();

  JsonLimits limits_;
  State state_ = State::kBetween;
  JsonTokenKind kind_ = JsonTokenKind::kWord;
  char quote_ = 0;
  // Text of the value so far; its last token, still growing, begins at token_start_.
  std::string text_;
  size_t token_start_ = 0;
  std::vector<JsonToken> tokens_;
  int64_t braces_ = 0;
  int64_t brackets_ = 0;
};

// The value that `text` holds; exactly one.
[[nodiscard]] Result<JsonValue> parse_json(std::string_view text, JsonLimits limits = {});

}  // namespace cairn::schema
