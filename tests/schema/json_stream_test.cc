// JsonStream: values, errors and recovery, as the monitor protocol's clients see them.
#include "schema/json_stream.h"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace cairn::schema {
namespace {

// Every value and error that `text` causes, fed in pieces of `piece` bytes.
std::vector<std::string> items(std::string_view text, size_t piece = 4096, JsonLimits limits = {}) {
  JsonStream stream(limits);
  std::vector<std::string> result;
  while (!text.empty()) {
    std::string_view chunk = text.substr(0, piece);
    text.remove_prefix(chunk.size());
    while (auto item = stream.next(chunk)) {
      result.push_back(*item ? to_text(**item) : item->error().message());
    }
  }
  return result;
}

using Texts = std::vector<std::string>;

std::string parse_error(std::string_view text) {
  const auto value = parse_json(text);
  return value ? "no error: " + to_text(*value) : value.error().message();
}

TEST(JsonStream, FindsValuesThatFollowEachOtherDirectly) {
  EXPECT_EQ(items("{\"a\":1}{\"b\":[2,3]}\n[ ]"), (Texts{"{\"a\": 1}", "{\"b\": [2, 3]}", "[]"}));
}

TEST(JsonStream, GivesTheSameItemsHoweverTheBytesArrive) {
  const std::string text =
      "{\"a\":\"x\\n\\u00e9\",\"b\":[1.5,-2,true,null]} 12 {'q':'it''s'} %junk {\"c\":01}\n{}";
  const Texts whole = items(text);
  for (size_t piece = 1; piece < 7; ++piece) {
    EXPECT_EQ(items(text, piece), whole) << piece;
  }
  EXPECT_GT(whole.size(), 4U);
}

TEST(JsonStream, SaysWhatIsWrongInAPeersWords) {
  const std::pair<const char*, const char*> cases[] = {
      {"{'a': 1, }", "expecting value"},
      {"{\"a\" 1}", "missing : in object pair"},
      {"{\"a\": }", "expecting value"},
      {"{\"a\": 1, 5: 1}", "key is not a string in object"},
      {"{\"a\": 1 \"b\"}", "expected separator in dict"},
      {"[1 2]", "expected separator in list"},
      {"{\"a\":1]", "expected separator in dict"},
      {"[}", "expecting value"},
      {"abc", "invalid keyword 'abc'"},
      {"{\"a\":1,\"a\":2}", "duplicate key"},
      {"{", "premature EOI"},
      {"{\"a", "stray '\"a'"},
      {"{\"a\":01}", "stray '01'"},
      {"{\"a\":-}", "stray '-}'"},
      {"{\"a\":1.}", "stray '1.}'"},
      {"{\"a\":+1}", "stray '+'"},
      {"%s", "stray '%'"},
      {"\"\\x\"", "invalid escape sequence in string"},
      {"\"\\u12\"", "\\u12\" is not a valid Unicode character"},
      {"\"\\ud83d\"", "\\ud83d is not a valid Unicode character"},
      {"\"\\ud83d\\u0041\"", "\\ud83d is not a valid Unicode character"},
      {"\"\\uffff\"", "\\uffff is not a valid Unicode character"},
      {"\"\xc3\"", "invalid UTF-8 sequence in string"},
      {"\"\xed\xa0\x80\"", "invalid UTF-8 sequence in string"},
      {"\"\xf4\x90\x80\x80\"", "invalid UTF-8 sequence in string"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_EQ(parse_error(text), std::string("JSON parse error, ") + message) << text;
  }
  EXPECT_EQ(parse_error("{} x"), "Expecting at most one JSON value");
}

TEST(JsonStream, GoesOnBehindTheNextBracketOrLineAfterAStrayByte) {
  EXPECT_EQ(items("{\"e\": \"a\nb\"}\n{}"),
            (Texts{"JSON parse error, stray '\"a\n'", "JSON parse error, expecting value", "{}"}));
  EXPECT_EQ(items("%s\nabc\n"),
            (Texts{"JSON parse error, stray '%'", "JSON parse error, invalid keyword 'abc'"}));
  EXPECT_EQ(items("\xff{}"), (Texts{"JSON parse error, stray '\xff'", "{}"}));
  EXPECT_EQ(items("{\"a\":\x01,2}{}"),
            (Texts{"JSON parse error, stray '\x01'", "JSON parse error, expecting value", "2",
                   "JSON parse error, expecting value", "{}"}));
}

TEST(JsonStream, KeepsNumbersAsTheyWereWritten) {
  EXPECT_EQ(items("[0,-0,9223372036854775807,-9223372036854775808,18446744073709551615]"),
            (Texts{"[0, 0, 9223372036854775807, -9223372036854775808, 18446744073709551615]"}));
  EXPECT_EQ(items("[18446744073709551616,1.5,1e2,-2.5e-3,1e400]"),
            (Texts{"[1.8446744073709552e+19, 1.5, 100, -0.0025000000000000001, "
                   "1.7976931348623157e+308]"}));
  EXPECT_FALSE(parse_json("1.0")->is_integer());
  EXPECT_TRUE(parse_json("10")->is_integer());
}

TEST(JsonStream, EscapesEverythingBeyondAscii) {
  EXPECT_EQ(items("\"\xc3\xa9\xf0\x9f\x98\x80\\u007f\\t\\/\""),
            (Texts{"\"\\u00E9\\uD83D\\uDE00\\u007F\\t/\""}));
  EXPECT_EQ(items("[\"\\u0000\",\"\xc0\x80\"]"), (Texts{"[\"\\u0000\", \"\\u0000\"]"}));
}

TEST(JsonStream, LetsNoZeroByteIntoAString) {
  const auto value = parse_json("\"a\\u0000b\"");
  ASSERT_TRUE(value.has_value());
  EXPECT_EQ(value->as_string()->find('\0'), std::string::npos);
}

TEST(JsonStream, LimitsDepth) {
  const std::string deepest = std::string(1024, '[') + std::string(1024, ']');
  EXPECT_EQ(items(deepest).size(), 1U);
  EXPECT_EQ(items(deepest)[0].substr(0, 4), "[[[[");
  EXPECT_EQ(items(std::string(1025, '[')), (Texts{"JSON nesting depth limit exceeded"}));
  EXPECT_EQ(items(std::string(100000, '[') + "]]]\n{}"),
            (Texts{"JSON nesting depth limit exceeded", "{}"}));
}

TEST(JsonStream, LimitsTheSizeOfAValueAndGoesOnWithTheNextLine) {
  const JsonLimits limits{.depth = 8, .bytes = 100, .tokens = 20};
  const std::string longer = "{\"a\":\"" + std::string(500, 'x') + "\"}\n{\"b\":1}";
  EXPECT_EQ(items(longer, 64, limits), (Texts{"JSON token size limit exceeded", "{\"b\": 1}"}));
  const std::string many = "[1,1,1,1,1,1,1,1,1,1,1,1,1,1]\n{}";
  EXPECT_EQ(items(many, 64, limits), (Texts{"JSON token count limit exceeded", "{}"}));
}

TEST(JsonStream, RefusesDuplicatesAmongManyMembers) {
  std::string text = "{";
  for (int i = 0; i < 1000; ++i) {
    text += "\"k" + std::to_string(i) + "\":0,";
  }
  EXPECT_EQ(parse_error(text + "\"k500\":1}"), "JSON parse error, duplicate key");
  EXPECT_TRUE(parse_json(text + "\"other\":1}").has_value());
}

TEST(JsonText, LaysOutForPeople) {
  EXPECT_EQ(to_text(*parse_json("{'a':[1,2],'b':{},'c':[]}"), JsonLayout::kPretty),
            "{\n    \"a\": [\n        1,\n        2\n    ],\n    \"b\": {\n    },\n    \"c\": [\n"
            "    ]\n}");
}

TEST(JsonText, SortsMembersAtEveryDepth) {
  JsonValue value = *parse_json("{'b':[{'d':1,'c':2}],'a':0}");
  value.sort();
  EXPECT_EQ(to_text(value), "{\"a\": 0, \"b\": [{\"c\": 2, \"d\": 1}]}");
}

}  // namespace
}  // namespace cairn::schema
