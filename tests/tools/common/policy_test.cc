// Tests of tools/common/policy.h: what --policy takes.
#include "tools/common/policy.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace cairn::tools {
namespace {

std::string refusal(std::string_view text) {
  const auto policy = parse_policy(text, "check");
  return policy ? std::string("taken") : policy.error().message();
}

TEST(Policy, TrustsByDefault) {
  for (const Policy& policy : {program_policy(), *parse_policy("trusted", "info")}) {
    EXPECT_TRUE(policy.images.follow_names);
    EXPECT_FALSE(policy.images.formats);
    EXPECT_EQ(policy.images.largest_disk, UINT64_MAX);
    EXPECT_EQ(policy.seconds, 0u);
    EXPECT_EQ(policy.memory, 0u);
  }
}

TEST(Policy, UntrustedImagesBringNothingAbout) {
  const auto policy = parse_policy("untrusted", "info");
  ASSERT_TRUE(policy);
  EXPECT_FALSE(policy->images.follow_names);
  ASSERT_TRUE(policy->images.formats);
  EXPECT_TRUE(policy->images.formats->empty());
  EXPECT_EQ(policy->images.largest_disk, uint64_t{2} << 40);
}

TEST(Policy, MeansAreThoseOfTheCommand) {
  EXPECT_EQ(parse_policy("untrusted", "info")->seconds, 1u);
  EXPECT_EQ(parse_policy("untrusted", "info")->memory, 64u << 20);
  EXPECT_EQ(parse_policy("untrusted", "check")->seconds, 60u);
  EXPECT_EQ(parse_policy("untrusted", "convert")->seconds, 3600u);
  EXPECT_EQ(parse_policy("untrusted", "convert")->exit_code, 1);
  EXPECT_EQ(parse_policy("untrusted", "compare")->exit_code, 4);
}

TEST(Policy, KeysSayOtherwise) {
  const auto policy =
      parse_policy("untrusted,formats=qcow2:raw,max-size=1G,max-time=7,max-memory=32M", "info");
  ASSERT_TRUE(policy) << policy.error().message();
  EXPECT_EQ(policy->images.formats, (std::vector<std::string>{"qcow2", "raw"}));
  EXPECT_EQ(policy->images.largest_disk, uint64_t{1} << 30);
  EXPECT_EQ(policy->seconds, 7u);
  EXPECT_EQ(policy->memory, 32u << 20);
  const auto none = parse_policy("untrusted,max-size=0,max-time=0,max-memory=0", "info");
  ASSERT_TRUE(none);
  EXPECT_EQ(none->images.largest_disk, UINT64_MAX);
  EXPECT_EQ(none->seconds, 0u);
  EXPECT_EQ(none->memory, 0u);
}

TEST(Policy, WhatIsWrongIsNamed) {
  EXPECT_EQ(refusal("untrusted,formats=qcow2:nbd"), "Invalid policy: 'nbd' is no image format");
  EXPECT_EQ(refusal("untrusted,formats"), "Invalid policy: '' is no image format");
  EXPECT_EQ(refusal("untrusted,max-time=-1"),
            "Invalid policy: max-time takes a number of seconds up to 8640000, not '-1'");
  EXPECT_EQ(refusal("untrusted,max-memory=1M"),
            "Invalid policy: max-memory takes a size of 16777216 or more, or 0 for any, not '1M'");
  EXPECT_EQ(refusal("untrusted,size=1"),
            "Invalid policy: there is no key 'size' (but formats, max-size, max-time, max-memory)");
  EXPECT_NE(refusal("trusted,max-time=1"), "taken");
  EXPECT_NE(refusal(""), "taken");
}

}  // namespace
}  // namespace cairn::tools
