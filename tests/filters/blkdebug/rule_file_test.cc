// Files with rules, as people write them and as they get them wrong.
#include "filters/blkdebug/rule_file.h"

#include <cstdio>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

namespace cairn::filters::blkdebug {
namespace {

using block::FaultPoint;

std::string refusal(std::string_view text) {
  Rules rules;
  const Result<void> parsed = parse_rules(text, rules);
  return parsed ? "accepted" : parsed.error().message();
}

TEST(BlkdebugRuleFile, HoldsRulesOfBothKinds) {
  Rules rules;
  ASSERT_TRUE(parse_rules(
      "# first the state\n"
      "[set-state]\nevent = \"l2_load\"\nnew_state = \"5\"\n\n"
      "[inject-error \"any name\"]\n"
      "  event = \"read_aio\"\n  state = \"5\"\n  iotype = \"write\"\n"
      "  errno = \"0x1c\"\n  sector = \"2\"\n  once = \"on\"\n  immediately = \"off\"\n",
      rules));
  rules.reached(FaultPoint::kReadAio);
  EXPECT_FALSE(rules.failure_of(RequestKind::kWrite, 0, 4096));
  rules.reached(FaultPoint::kL2Load);
  EXPECT_EQ(rules.state(), 5);
  rules.reached(FaultPoint::kReadAio);
  EXPECT_FALSE(rules.failure_of(RequestKind::kRead, 0, 4096));
  EXPECT_FALSE(rules.failure_of(RequestKind::kWrite, 0, 1024));
  const auto failure = rules.failure_of(RequestKind::kWrite, 0, 4096);
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->error, 28);
  EXPECT_FALSE(rules.failure_of(RequestKind::kWrite, 0, 4096));
}

TEST(BlkdebugRuleFile, MayBeEmpty) { EXPECT_EQ(refusal("\n# nothing\n"), "accepted"); }

// The messages are those of the field.
TEST(BlkdebugRuleFile, IsRefusedWithTheReason) {
  EXPECT_EQ(refusal("[options]\n"), "There is no option group 'options'");
  EXPECT_EQ(refusal("event = \"none\"\n"), "no group defined");
  EXPECT_EQ(refusal(" [inject-error]\nevent = \"none\"\n"), "no group defined");
  EXPECT_EQ(refusal("[inject-error]\nevnt = \"none\"\n"), "Invalid parameter 'evnt'");
  EXPECT_EQ(refusal("[set-state]\nerrno = \"5\"\n"), "Invalid parameter 'errno'");
  EXPECT_EQ(refusal("[inject-error]\nevent=\"none\"\n"), "Invalid parameter 'event=\"none\"'");
  EXPECT_EQ(refusal("[inject-error]\nerrno = \"x\"\n"), "Parameter 'errno' expects a number");
  EXPECT_EQ(refusal("[inject-error]\nerrno = \"\"\n"), "Parameter 'errno' expects a number");
  EXPECT_EQ(refusal("[inject-error]\nonce = \"maybe\"\n"),
            "Parameter 'once' expects 'on' or 'off'");
  EXPECT_EQ(refusal("[inject-error]\nerrno = \"5\"\n"), "Missing event name for rule");
  EXPECT_EQ(refusal("[inject-error]\nevent = \"full_moon\"\n"),
            "invalid parameter value: full_moon");
  EXPECT_EQ(refusal("[inject-error]\nevent = none\n"), "invalid parameter value: ");
  EXPECT_EQ(refusal("[inject-error]\nevent = \"none\"\niotype = \"red\"\n"),
            "invalid parameter value: red");
}

TEST(BlkdebugRuleFile, IsReadFromAPath) {
  const std::string path = ::testing::TempDir() + "cairn-rules.conf";
  std::ofstream(path) << "[inject-error]\nevent = \"none\"\n";
  Rules rules;
  EXPECT_TRUE(read_rule_file(path, rules));
  rules.reached(FaultPoint::kNone);
  EXPECT_TRUE(rules.failure_of(RequestKind::kRead, 0, 1));
  std::remove(path.c_str());
  const Result<void> gone = read_rule_file(path, rules);
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().message(), "Could not open '" + path + "': No such file or directory");
  EXPECT_EQ(read_rule_file(::testing::TempDir(), rules).error().message(),
            "Cannot read config file: Is a directory");
}

}  // namespace
}  // namespace cairn::filters::blkdebug
