// Tests of tools/common/create.h and of block/create_options.h, which it fills.
#include "tools/common/create.h"

#include <array>
#include <cerrno>

#include <gtest/gtest.h>

#include "tools/common/drivers.h"

namespace cairn::tools {
namespace {

using block::CreateOptionInfo;
using block::CreateOptions;

constexpr std::array kTable = {
    CreateOptionInfo{"cluster_size", CreateOptionInfo::Type::kSize, "", "65536"},
    CreateOptionInfo{"size", CreateOptionInfo::Type::kSize, "", ""},
    CreateOptionInfo{"backing_file", CreateOptionInfo::Type::kString, "", ""},
    CreateOptionInfo{"lazy", CreateOptionInfo::Type::kBool, "", "off"},
    CreateOptionInfo{"bits", CreateOptionInfo::Type::kNumber, "", ""}};

TEST(CreateOptions, ShowsDefaultsAndWhatWasSetInTheOrderOfTheTable) {
  CreateOptions options(kTable);
  ASSERT_TRUE(parse_option_list("lazy=on,size=1k,cluster_size=4k", options));
  EXPECT_EQ(options.to_text(), "cluster_size=4096 size=1024 lazy=on");
}

TEST(CreateOptions, TheLastOfSeveralValuesCounts) {
  CreateOptions options(kTable);
  ASSERT_TRUE(parse_option_list("bits=1,bits=0x10", options));
  EXPECT_EQ(options.number("bits"), 16u);
}

TEST(CreateOptions, ADoubledCommaBelongsToTheValue) {
  CreateOptions options(kTable);
  ASSERT_TRUE(parse_option_list("backing_file=a,,b,bits=2", options));
  EXPECT_EQ(options.string("backing_file"), "a,b");
  EXPECT_EQ(options.to_text(), "cluster_size=65536 backing_file=a,,b lazy=off bits=2");
}

TEST(CreateOptions, ANameAloneSwitchesOn) {
  CreateOptions options(kTable);
  ASSERT_TRUE(parse_option_list("lazy", options));
  EXPECT_EQ(options.boolean("lazy"), true);
}

TEST(CreateOptions, TakesEveryWordForYesAndNo) {
  CreateOptions options(kTable);
  for (const std::string_view yes : {"on", "yes", "true", "y"}) {
    ASSERT_TRUE(options.set("lazy", yes)) << yes;
    EXPECT_EQ(options.boolean("lazy"), true) << yes;
  }
  for (const std::string_view no : {"off", "no", "false", "n"}) {
    ASSERT_TRUE(options.set("lazy", no)) << no;
    EXPECT_EQ(options.boolean("lazy"), false) << no;
  }
  EXPECT_FALSE(options.set("lazy", "On"));
}

TEST(CreateOptions, RefusesWhatDoesNotFitTheTable) {
  CreateOptions options(kTable);
  EXPECT_EQ(parse_option_list("nosuch=1", options).error().message(), "Invalid parameter 'nosuch'");
  EXPECT_EQ(parse_option_list("lazy=maybe", options).error().message(),
            "Parameter 'lazy' expects 'on' or 'off'");
  EXPECT_EQ(parse_option_list("bits=many", options).error().message(),
            "Parameter 'bits' expects a number");
  EXPECT_EQ(parse_option_list("size=16E", options).error().message(),
            "Value '16E' is out of range for parameter 'size'");
  const Error size = parse_option_list("size=-1", options).error();
  EXPECT_EQ(size.message(), "Parameter 'size' expects a non-negative number below 2^64");
  EXPECT_FALSE(size.hint().empty());
  EXPECT_FALSE(options.has("size"));
}

TEST(OptionList, JoinsSeveral) {
  std::string list;
  ASSERT_TRUE(append_option_list(list, "a=1"));
  ASSERT_TRUE(append_option_list(list, "b=2,c=3"));
  EXPECT_EQ(list, "a=1,b=2,c=3");
}

TEST(OptionList, RefusesEmptyEnds) {
  for (const char* text : {"", ",a=1", "a=1,"}) {
    std::string list;
    EXPECT_EQ(append_option_list(list, text).error().message(),
              std::string("Invalid option list: ") + text);
  }
  std::string list;
  EXPECT_TRUE(append_option_list(list, "a=1,,"));  // a comma in the value
}

TEST(OptionList, FindsAWishForHelp) {
  EXPECT_TRUE(asks_for_help("help"));
  EXPECT_TRUE(asks_for_help("a=1,?"));
  EXPECT_FALSE(asks_for_help("a=help"));
  EXPECT_FALSE(asks_for_help("a=1,,help"));
  EXPECT_TRUE(asks_for_help("help,,x"));  // which no value of an option can begin with
  EXPECT_FALSE(asks_for_help("helpless,nohelp"));
}

TEST(CreationTable, KnowsFormatsThatCanBeCreated) {
  const block::DriverTable drivers = all_drivers();
  const auto raw = CreationTable::find(drivers, "raw", "x");
  ASSERT_TRUE(raw);
  EXPECT_TRUE(raw->has("size"));
  EXPECT_TRUE(raw->has("preallocation"));  // of the protocol
  EXPECT_EQ(CreationTable::find(drivers, "nosuch", "x").error().message(),
            "Unknown file format 'nosuch'");
  EXPECT_EQ(CreationTable::find(drivers, "null-co", "x").error().message(),
            "Format driver 'null-co' does not support image creation");
  EXPECT_EQ(CreationTable::find(drivers, "raw", "nosuch:x").error().message(),
            "Unknown protocol 'nosuch'");
}

TEST(CreationTable, TellsWhenAFormatIsTooSmall) {
  const block::DriverTable drivers = all_drivers();
  const auto raw = CreationTable::find(drivers, "raw", "x");
  EXPECT_EQ(creation_failure(*raw, "x", Error(EFBIG, "")).message(),
            "The image size is too large for file format 'raw'");
  EXPECT_EQ(creation_failure(*raw, "x", Error(EIO, "other")).message(), "other");
}

TEST(CreationTable, TellsWhatIsWrongWithTheFileFirst) {
  const block::DriverTable drivers = all_drivers();
  const auto qcow2 = CreationTable::find(drivers, "qcow2", "/no/where");
  ASSERT_TRUE(qcow2);
  EXPECT_EQ(creation_failure(*qcow2, "/no/where", Error(EINVAL, "other")).message(),
            "Could not create '/no/where': No such file or directory");
}

}  // namespace
}  // namespace cairn::tools
