// Sizes as people write and read them.
#include "base/size_text.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(SizeText, TakesSuffixesInEitherCase) {
  EXPECT_EQ(*parse_size("512"), 512u);
  EXPECT_EQ(*parse_size("512b"), 512u);
  EXPECT_EQ(*parse_size("1k"), 1024u);
  EXPECT_EQ(*parse_size("1K"), 1024u);
  EXPECT_EQ(*parse_size("2M"), uint64_t{2} << 20);
  EXPECT_EQ(*parse_size("3g"), uint64_t{3} << 30);
  EXPECT_EQ(*parse_size("1T"), uint64_t{1} << 40);
  EXPECT_EQ(*parse_size("1P"), uint64_t{1} << 50);
  EXPECT_EQ(*parse_size("15E"), uint64_t{15} << 60);
  EXPECT_EQ(*parse_size(" +5k"), 5120u);
}

TEST(SizeText, TakesFractionsOfUnits) {
  EXPECT_EQ(*parse_size("1.5k"), 1536u);
  EXPECT_EQ(*parse_size("0.25G"), uint64_t{1} << 28);
  EXPECT_EQ(*parse_size("1.k"), 1024u);
  EXPECT_EQ(*parse_size("1.0"), 1u);
  EXPECT_EQ(*parse_size("0.00001k"), 0u);
  EXPECT_EQ(parse_size("1.5").error().code(), EINVAL);
  EXPECT_EQ(parse_size("1.5b").error().code(), EINVAL);
  EXPECT_EQ(parse_size(".5k").error().code(), EINVAL);
}

TEST(SizeText, TakesHexadecimalWithoutSuffix) {
  EXPECT_EQ(*parse_size("0x1000"), 4096u);
  EXPECT_EQ(*parse_size("0x1B"), 27u);
  EXPECT_EQ(parse_size("0x").error().code(), EINVAL);
  EXPECT_EQ(parse_size("0x1.8k").error().code(), EINVAL);
}

TEST(SizeText, RefusesWhatIsNoSize) {
  for (const char* text : {"", "k", "x", "-1", "1kk", "1 k", "1e3", "inf", "1KiB", ".", "0x1k"}) {
    EXPECT_EQ(parse_size(text).error().code(), EINVAL) << text;
  }
}

TEST(SizeText, TellsWhatDoesNotFit) {
  EXPECT_EQ(*parse_size("18446744073709551615"), UINT64_MAX);
  for (const char* text : {"18446744073709551616", "16E", "0x10000000000000000", "99999999P"}) {
    EXPECT_EQ(parse_size(text).error().code(), ERANGE) << text;
  }
}

TEST(SizeText, ShowsThreeSignificantDigits) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(512), "512 B");
  EXPECT_EQ(format_size(999), "999 B");
  EXPECT_EQ(format_size(1000), "0.977 KiB");
  EXPECT_EQ(format_size(1536), "1.5 KiB");
  EXPECT_EQ(format_size(1024000), "0.977 MiB");
  EXPECT_EQ(format_size(1234944), "1.18 MiB");
  EXPECT_EQ(format_size(uint64_t{1023} << 30), "0.999 TiB");
  EXPECT_EQ(format_size(UINT64_MAX), "16 EiB");
}

}  // namespace
}  // namespace cairn
