// Tests of tools/common_object.h.
#include <gtest/gtest.h>

#include "tools/common_object.h"

namespace cairn::tools {
namespace {

TEST(ObjectStore, TakesSecrets) {
  ObjectStore objects;
  EXPECT_TRUE(objects.add("secret,id=a,data=x"));
  EXPECT_TRUE(objects.add("qom-type=secret,id=b,file=/dev/null,format=base64"));
  EXPECT_TRUE(objects.add(R"({"qom-type": "secret", "id": "c", "data": "x"})"));
}

TEST(ObjectStore, NamesWhatIsWrong) {
  ObjectStore objects;
  ASSERT_TRUE(objects.add("secret,id=a,data=x"));
  const auto message = [&objects](std::string_view text) {
    return objects.add(text).error().message();
  };
  EXPECT_EQ(message("nosuch,id=x"), "Parameter 'qom-type' does not accept value 'nosuch'");
  EXPECT_EQ(message("secret,data=x"), "Parameter 'id' is missing");
  EXPECT_EQ(message("secret,id=s"), "Either 'file' or 'data' must be provided");
  EXPECT_EQ(message("secret,id=s,data=x,file=y"), "'file' and 'data' are mutually exclusive");
  EXPECT_EQ(message("secret,id=s,data=x,nosuch=1"), "Parameter 'nosuch' is unexpected");
  EXPECT_EQ(message("secret,id=a,data=x"),
            "attempt to add duplicate property 'a' to object (type 'container')");
}

}  // namespace
}  // namespace cairn::tools
