// Tests of tools/common/options.h.
#include "tools/common/options.h"

#include <array>

#include <gtest/gtest.h>

namespace cairn::tools {
namespace {

constexpr std::array kSpecs = {OptionSpec{'q', "quiet", false}, OptionSpec{'f', "format", true},
                               OptionSpec{300, "output", true},
                               OptionSpec{301, "progress", false, true}};

struct Parsed {
  std::vector<std::pair<int, std::string>> options;
  std::vector<std::string> operands;
};

Parsed parse(const std::vector<std::string>& arguments) {
  Parsed parsed;
  OptionReader reader("test", arguments, kSpecs);
  while (const auto option = reader.next()) {
    parsed.options.emplace_back(option->id, option->value);
  }
  parsed.operands = reader.operands();
  return parsed;
}

using Options = std::vector<std::pair<int, std::string>>;
using Operands = std::vector<std::string>;

TEST(OptionReader, MixesOptionsAndOperands) {
  const Parsed parsed = parse({"a", "-q", "b", "-f", "raw", "c"});
  EXPECT_EQ(parsed.options, (Options{{'q', ""}, {'f', "raw"}}));
  EXPECT_EQ(parsed.operands, (Operands{"a", "b", "c"}));
}

TEST(OptionReader, TakesValuesAttachedOrApart) {
  EXPECT_EQ(parse({"-fraw", "--format=qcow2", "--format", "x", "--output=json"}).options,
            (Options{{'f', "raw"}, {'f', "qcow2"}, {'f', "x"}, {300, "json"}}));
}

TEST(OptionReader, TakesValuesThatMayBeLeftOutAttachedAlone) {
  const Parsed parsed = parse({"--progress", "json", "--progress=json"});
  EXPECT_EQ(parsed.options, (Options{{301, ""}, {301, "json"}}));
  EXPECT_EQ(parsed.operands, (Operands{"json"}));
}

TEST(OptionReader, TakesShortenedLongNames) {
  EXPECT_EQ(parse({"--out=human", "--qui"}).options, (Options{{300, "human"}, {'q', ""}}));
}

TEST(OptionReader, OptionsOfOurOwnMakeNoAbbreviationUnclear) {
  constexpr std::array kMixed = {OptionSpec{300, "compress", false},
                                 OptionSpec{301, "compression-level", true, false, true},
                                 OptionSpec{302, "verify", false, false, true}};
  const auto read = [&kMixed](const std::vector<std::string>& arguments) {
    Options options;
    OptionReader reader("test", arguments, kMixed);
    while (const auto option = reader.next()) {
      options.emplace_back(option->id, option->value);
    }
    return options;
  };
  EXPECT_EQ(read({"--comp"}), (Options{{300, ""}}));
  EXPECT_EQ(read({"--compression-level=3"}), (Options{{301, "3"}}));
  EXPECT_EQ(read({"--compressi=3"}), (Options{{301, "3"}}));
  EXPECT_EQ(read({"--ver"}), (Options{{302, ""}}));
}

TEST(OptionReader, LeavesWhatFollowsTwoHyphens) {
  const Parsed parsed = parse({"-q", "--", "-f", "x"});
  EXPECT_EQ(parsed.options, (Options{{'q', ""}}));
  EXPECT_EQ(parsed.operands, (Operands{"-f", "x"}));
}

TEST(OptionReader, ReportsUnknownOptionsAndMissingValues) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(parse({"--nosuch"}).options, (Options{{0, ""}}));
  EXPECT_EQ(parse({"-x"}).options, (Options{{0, ""}}));
  EXPECT_EQ(parse({"-f"}).options, (Options{{0, ""}}));
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "test: unrecognized option '--nosuch'\n"
            "test: invalid option -- 'x'\n"
            "test: option requires an argument -- 'f'\n");
}

TEST(OptionReader, StartsOverEachTime) {
  EXPECT_EQ(parse({"-q", "a"}).operands, (Operands{"a"}));
  EXPECT_EQ(parse({"b", "-q"}).operands, (Operands{"b"}));
}

}  // namespace
}  // namespace cairn::tools
