// Tests of the option values that all programs share.
#include "tools/common/session.h"

#include <gtest/gtest.h>

namespace cairn::tools {
namespace {

TEST(SizeArgument, NamesWhatIsWrong) {
  EXPECT_EQ(*parse_size_argument("image size", "1k"), 1024u);
  EXPECT_EQ(parse_size_argument("image size", "1x").error().message(),
            "Invalid image size specified: '1x'");
  EXPECT_EQ(parse_size_argument("image size", "-1").error().message(),
            "Invalid image size specified. Must be between 0 and 9223372036854775807.");
  EXPECT_EQ(parse_size_argument("image size", "8E").error().message(),
            "Invalid image size specified. Must be between 0 and 9223372036854775807.");
  EXPECT_EQ(parse_size_argument("count", "5", 6, 7).error().message(),
            "Invalid count specified. Must be between 6 and 7.");
}

TEST(CacheMode, KnowsTheFieldsNames) {
  EXPECT_TRUE(parse_cache_mode("none")->direct);
  EXPECT_TRUE(parse_cache_mode("directsync")->writethrough);
  EXPECT_TRUE(parse_cache_mode("directsync")->direct);
  EXPECT_FALSE(parse_cache_mode("writeback")->direct);
  EXPECT_TRUE(parse_cache_mode("writethrough")->writethrough);
  EXPECT_TRUE(parse_cache_mode("unsafe")->no_flush);
  EXPECT_FALSE(parse_cache_mode("bogus"));
}

TEST(Preallocation, KnowsTheFieldsNames) {
  EXPECT_EQ(*parse_preallocation("falloc"), block::Preallocation::kFalloc);
  EXPECT_EQ(parse_preallocation("bogus").error().message(), "Invalid preallocation mode 'bogus'");
}

TEST(DiscardMode, KnowsTheFieldsNames) {
  EXPECT_EQ(parse_discard_mode("unmap"), true);
  EXPECT_EQ(parse_discard_mode("on"), true);
  EXPECT_EQ(parse_discard_mode("ignore"), false);
  EXPECT_EQ(parse_discard_mode("off"), false);
  EXPECT_FALSE(parse_discard_mode("bogus"));
}

}  // namespace
}  // namespace cairn::tools
