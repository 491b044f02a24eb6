// Tests of tools/common/object.h.
#include "tools/common/object.h"

#include <gtest/gtest.h>

namespace cairn::tools {
namespace {

TEST(AddObject, TakesSecrets) {
  EXPECT_TRUE(add_object("secret,id=a,data=x"));
  EXPECT_TRUE(add_object("qom-type=secret,id=b,file=/dev/null,format=base64"));
  EXPECT_TRUE(add_object(R"({"qom-type": "secret", "id": "c", "data": "x"})"));
}

TEST(AddObject, NamesWhatIsWrong) {
  ASSERT_TRUE(add_object("secret,id=there,data=x"));
  const auto message = [](std::string_view text) { return add_object(text).error().message(); };
  EXPECT_EQ(message("nosuch,id=x"), "Parameter 'qom-type' does not accept value 'nosuch'");
  EXPECT_EQ(message("secret,data=x"), "Parameter 'id' is missing");
  EXPECT_EQ(message("secret,id=s"), "Either 'file' or 'data' must be provided");
  EXPECT_EQ(message("secret,id=s,data=x,file=y"), "'file' and 'data' are mutually exclusive");
  EXPECT_EQ(message("secret,id=s,data=x,nosuch=1"), "Parameter 'nosuch' is unexpected");
  EXPECT_EQ(message("secret,id=there,data=x"),
            "attempt to add duplicate property 'there' to object (type 'container')");
}

TEST(AddObject, HasNoThreadsOfServersWhereNobodyIsServed) {
  const auto refused = add_object("iothread,id=t", ObjectTypes::kOffline);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "invalid object type: iothread");
  EXPECT_TRUE(object_help("help")->contains("iothread"));
  EXPECT_FALSE(object_help("help", ObjectTypes::kOffline)->contains("iothread"));
  EXPECT_EQ(object_help("iothread,help", ObjectTypes::kOffline),
            object_help("help", ObjectTypes::kOffline));
}

}  // namespace
}  // namespace cairn::tools
