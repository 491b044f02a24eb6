// parse_keyval: the tree it builds, and what it refuses.
#include "schema/keyval.h"

#include <string>

#include <gtest/gtest.h>

namespace cairn::schema {
namespace {

std::string parsed(std::string_view text, std::string_view implied = "driver") {
  const auto value = parse_keyval(text, implied);
  return value ? to_text(*value) : value.error().message();
}

TEST(Keyval, BuildsATreeFromDottedKeys) {
  EXPECT_EQ(parsed("driver=qcow2,node-name=d,file.driver=file,file.filename=x"),
            "{\"driver\": \"qcow2\", \"node-name\": \"d\", "
            "\"file\": {\"driver\": \"file\", \"filename\": \"x\"}}");
}

TEST(Keyval, TakesTheFirstPartForTheImpliedKey) {
  EXPECT_EQ(parsed("null-co,size=1"), "{\"driver\": \"null-co\", \"size\": \"1\"}");
  EXPECT_EQ(parsed("null-co", ""), "Expected '=' after parameter 'null-co'");
  EXPECT_EQ(parsed("a=1,null-co"), "Expected '=' after parameter 'null-co'");
}

TEST(Keyval, TakesTwoCommasForOneInAValue) {
  EXPECT_EQ(parsed("a=x,,y,b=,,"), "{\"a\": \"x,y\", \"b\": \",\"}");
  EXPECT_EQ(parsed("driver=null-co,,node-name=n"), "{\"driver\": \"null-co,node-name=n\"}");
}

TEST(Keyval, LetsTheLastValueCount) { EXPECT_EQ(parsed("a=1,a=2"), "{\"a\": \"2\"}"); }

TEST(Keyval, AllowsEmptyTextAndATrailingComma) {
  EXPECT_EQ(parsed(""), "{}");
  EXPECT_EQ(parsed("a=1,"), "{\"a\": \"1\"}");
}

TEST(Keyval, MakesAnArrayOfIndices) {
  EXPECT_EQ(parsed("c.1=b,c.0.x=a,c.2=c"), "{\"c\": [{\"x\": \"a\"}, \"b\", \"c\"]}");
  EXPECT_EQ(parsed("c.1=b"), "Parameter 'c.0' missing");
  EXPECT_EQ(parsed("a.c.0=b,a.c.2=d"), "Parameter 'a.c.1' missing");
  EXPECT_EQ(parsed("c.99999999999999999999999=b"), "Parameter 'c.0' missing");
  EXPECT_EQ(parsed("c.0=b,c.x=d"), "Parameters 'c.*' used inconsistently");
}

TEST(Keyval, RefusesAKeyThatIsBothValueAndTree) {
  EXPECT_EQ(parsed("file.driver=file,file=x"), "Parameters 'file.*' used inconsistently");
  EXPECT_EQ(parsed("file=x,file.driver=file"), "Parameters 'file.*' used inconsistently");
}

TEST(Keyval, RefusesMalformedKeys) {
  EXPECT_EQ(parsed("=x"), "Invalid parameter ''");
  EXPECT_EQ(parsed(",a=b"), "Invalid parameter ''");
  EXPECT_EQ(parsed(".a=b"), "Invalid parameter '.a'");
  EXPECT_EQ(parsed("a..b=1"), "Invalid parameter 'a..b'");
  EXPECT_EQ(parsed("a.=1"), "Invalid parameter 'a.'");
  EXPECT_EQ(parsed("1a=3"), "Invalid parameter '1a'");
  EXPECT_EQ(parsed("a b=3"), "Invalid parameter 'a b'");
  EXPECT_EQ(parsed("a.b"), "{\"driver\": \"a.b\"}");
  EXPECT_EQ(parsed("x=1,file.driver"), "Expected '=' after parameter 'file.driver'");
  const std::string name(128, 'a');
  EXPECT_EQ(parsed(name + "=1"), "Parameter '" + name + "' is too long");
}

TEST(Keyval, RefusesToBuildBottomlessTrees) {
  std::string key = "a";
  for (int i = 0; i < 10000; ++i) {
    key += ".a";
  }
  EXPECT_NE(parsed(key + "=1").find("too long"), std::string::npos);
}

TEST(Keyval, HasNoHelp) {
  EXPECT_EQ(parsed("help"), "Help is not available for this option");
  EXPECT_EQ(parsed("null-co,help"), "Help is not available for this option");
  EXPECT_EQ(parsed("driver=help"), "{\"driver\": \"help\"}");
}

}  // namespace
}  // namespace cairn::schema
