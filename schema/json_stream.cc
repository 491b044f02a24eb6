// The lexer: a state machine over bytes. Parsing of complete values is in json_parser.cc.
#include "schema/json_stream.h"

#include <cerrno>

#include "schema/json_parser.h"

namespace cairn::schema {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

std::optional<JsonTokenKind> structural(char c) {
  switch (c) {
    case '{':
      return JsonTokenKind::kOpenBrace;
    case '}':
      return JsonTokenKind::kCloseBrace;
    case '[':
      return JsonTokenKind::kOpenBracket;
    case ']':
      return JsonTokenKind::kCloseBracket;
    case ':':
      return JsonTokenKind::kColon;
    case ',':
      return JsonTokenKind::kComma;
    default:
      return std::nullopt;
  }
}

}  // namespace

JsonStream::Step JsonStream::step_between(char c) {
  if (const auto kind = structural(c)) {
    kind_ = *kind;
    return Step::kTokenWith;
  }
  if (c == '"' || c == '\'') {
    quote_ = c;
    kind_ = JsonTokenKind::kString;
    state_ = State::kString;
  } else if (c == '-') {
    state_ = State::kMinus;
  } else if (c == '0') {
    state_ = State::kZero;
  } else if (is_digit(c)) {
    state_ = State::kDigits;
  } else if (c >= 'a' && c <= 'z') {
    kind_ = JsonTokenKind::kWord;
    state_ = State::kWord;
  } else {
    return Step::kStray;
  }
  if (c == '-' || is_digit(c)) {
    kind_ = JsonTokenKind::kNumber;
  }
  return Step::kTaken;
}

JsonStream::Step JsonStream::step_string(char c) {
  const auto byte = static_cast<uint8_t>(c);
  if (byte < 0x20 || byte >= 0xfe) {
    return Step::kStray;
  }
  if (state_ == State::kEscape) {
    state_ = State::kString;
  } else if (c == '\\') {
    state_ = State::kEscape;
  } else if (c == quote_) {
    return Step::kTokenWith;
  }
  return Step::kTaken;
}

// RFC 8259, section 6.
JsonStream::Step JsonStream::step_number(char c) {
  const auto go = [this](State state) {
    state_ = state;
    return Step::kTaken;
  };
  switch (state_) {
    case State::kMinus:
      return c == '0' ? go(State::kZero) : is_digit(c) ? go(State::kDigits) : Step::kStray;
    case State::kZero:
      if (is_digit(c)) {
        return Step::kStray;
      }
      break;
    case State::kDigits:
      if (is_digit(c)) {
        return Step::kTaken;
      }
      break;
    case State::kPoint:
      return is_digit(c) ? go(State::kFraction) : Step::kStray;
    case State::kFraction:
      if (is_digit(c)) {
        return Step::kTaken;
      }
      return c == 'e' || c == 'E' ? go(State::kExponent) : Step::kTokenBefore;
    case State::kExponent:
      if (c == '+' || c == '-') {
        return go(State::kExponentSign);
      }
      [[fallthrough]];
    case State::kExponentSign:
      return is_digit(c) ? go(State::kExponentDigits) : Step::kStray;
    default:
      return is_digit(c) ? Step::kTaken : Step::kTokenBefore;
  }
  // After the digits in front of the point.
  if (c == '.') {
    return go(State::kPoint);
  }
  return c == 'e' || c == 'E' ? go(State::kExponent) : Step::kTokenBefore;
}

JsonStream::Step JsonStream::step(char c) {
  switch (state_) {
    case State::kBetween:
      return step_between(c);
    case State::kString:
    case State::kEscape:
      return step_string(c);
    case State::kWord:
      return c >= 'a' && c <= 'z' ? Step::kTaken : Step::kTokenBefore;
    default:
      return step_number(c);
  }
}

std::optional<Result<JsonValue>> JsonStream::next(std::string_view& input) {
  while (!input.empty()) {
    const char c = input.front();
    if (state_ == State::kSkipLine || (state_ == State::kBetween && is_space(c))) {
      if (state_ == State::kSkipLine && c == '\n') {
        state_ = State::kBetween;
      }
      input.remove_prefix(1);
      continue;
    }
    if (state_ == State::kRecovery) {
      if (structural(c) || c == '\n') {
        state_ = State::kBetween;
      } else {
        input.remove_prefix(1);
      }
      continue;
    }
    if (text_.size() >= limits_.bytes) {
      return over_limit("token size");
    }
    const Step step = this->step(c);
    if (step != Step::kTokenBefore) {
      text_ += c;
      input.remove_prefix(1);
    }
    if (step == Step::kStray) {
      return stray();
    }
    if (step != Step::kTaken) {
      if (auto item = end_token()) {
        return item;
      }
    }
  }
  return std::nullopt;
}

std::optional<Result<JsonValue>> JsonStream::finish() {
  const bool in_string = state_ == State::kString || state_ == State::kEscape;
  const bool in_token =
      state_ != State::kBetween && state_ != State::kRecovery && state_ != State::kSkipLine;
  std::optional<Result<JsonValue>> item;
  if (in_string) {
    item = stray();
  } else if (in_token) {
    // A line break ends every token that can end here.
    std::string_view end = "\n";
    item = next(end);
  }
  if (!item && !tokens_.empty()) {
    item = parse_tokens();
  }
  reset();
  state_ = State::kBetween;
  return item;
}

// The token is whole; returns the value or error that it completes.
std::optional<Result<JsonValue>> JsonStream::end_token() {
  state_ = State::kBetween;
  if (tokens_.size() >= limits_.tokens) {
    return over_limit("token count");
  }
  tokens_.push_back({kind_, static_cast<uint32_t>(token_start_),
                     static_cast<uint32_t>(text_.size() - token_start_)});
  token_start_ = text_.size();
  return count_structure(kind_);
}

std::optional<Result<JsonValue>> JsonStream::count_structure(JsonTokenKind kind) {
  braces_ += kind == JsonTokenKind::kOpenBrace ? 1 : kind == JsonTokenKind::kCloseBrace ? -1 : 0;
  brackets_ += kind == JsonTokenKind::kOpenBracket    ? 1
               : kind == JsonTokenKind::kCloseBracket ? -1
                                                      : 0;
  if (braces_ + brackets_ > static_cast<int64_t>(limits_.depth)) {
    return over_limit("nesting depth");
  }
  if ((braces_ > 0 || brackets_ > 0) && braces_ >= 0 && brackets_ >= 0) {
    return std::nullopt;
  }
  Result<JsonValue> value = parse_tokens();
  reset();
  return value;
}

Result<JsonValue> JsonStream::parse_tokens() { return parse_json_tokens(text_, tokens_); }

Result<JsonValue> JsonStream::stray() {
  const std::string token = text_.substr(token_start_);
  reset();
  state_ = State::kRecovery;
  return fail(EINVAL, "JSON parse error, stray '{}'", token.c_str());
}

// What follows on the line belongs to the value that was too large, and is no news to anybody.
Result<JsonValue> JsonStream::over_limit(std::string_view what) {
  reset();
  state_ = State::kSkipLine;
  return fail(E2BIG, "JSON {} limit exceeded", what);
}

void JsonStream::reset() {
  // One large value must not hold its memory for the rest of the session.
  if (text_.capacity() > 65536) {
    std::string().swap(text_);
  }
  if (tokens_.capacity() > 4096) {
    std::vector<JsonToken>().swap(tokens_);
  }
  text_.clear();
  tokens_.clear();
  token_start_ = 0;
  braces_ = 0;
  brackets_ = 0;
}

Result<JsonValue> parse_json(std::string_view text, JsonLimits limits) {
  JsonStream stream(limits);
  std::optional<Result<JsonValue>> first = stream.next(text);
  if (!first) {
    first = stream.finish();
  }
  if (!first) {
    return fail(EINVAL, "Expecting a JSON value");
  }
  if (*first && (stream.next(text) || stream.finish())) {
    return fail(EINVAL, "Expecting at most one JSON value");
  }
  return std::move(*first);
}

}  // namespace cairn::schema
