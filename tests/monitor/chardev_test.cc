// parse_chardev: what it takes, and the words in which it refuses.
#include "monitor/chardev.h"

#include <string>

#include <gtest/gtest.h>

namespace cairn::monitor {
namespace {

std::string refusal(std::string_view text) {
  const auto settings = parse_chardev(text);
  return settings ? "accepted" : settings.error().message();
}

TEST(Chardev, ReadsASocketServer) {
  const auto settings = parse_chardev("socket,id=m,path=a.sock,server=on,wait=off");
  ASSERT_TRUE(settings.has_value());
  EXPECT_EQ(settings->kind, ChardevSettings::Kind::kSocket);
  EXPECT_EQ(settings->address.path, "a.sock");
  EXPECT_TRUE(settings->server);
  EXPECT_FALSE(settings->wait);
}

TEST(Chardev, WaitsForAClientUnlessToldOtherwise) {
  EXPECT_TRUE(parse_chardev("socket,id=m,path=a,server=on")->wait);
  EXPECT_FALSE(parse_chardev("socket,id=m,path=a")->wait);
}

TEST(Chardev, ReadsAnInternetAddress) {
  const auto settings = parse_chardev("socket,id=m,host=::1,port=4444,server=on,ipv6=on");
  ASSERT_TRUE(settings.has_value());
  EXPECT_EQ(settings->address.kind, io::SocketAddress::Kind::kInet);
  EXPECT_EQ(settings->address.host, "::1");
  EXPECT_EQ(settings->address.port, "4444");
  EXPECT_EQ(settings->address.family, io::SocketAddress::Family::kIpv6);
}

TEST(Chardev, SaysWhatIsWrong) {
  EXPECT_EQ(refusal("nope,id=m"), "'nope' is not a valid char driver name");
  EXPECT_EQ(refusal("null"), "chardev: no id specified");
  EXPECT_EQ(refusal("id=m"), "chardev: \"m\" missing backend");
  EXPECT_EQ(refusal("socket,id=1m,path=a"), "Parameter 'id' expects an identifier");
  EXPECT_EQ(refusal("socket,id=m,path=a,bogus=1"), "Invalid parameter 'bogus'");
  EXPECT_EQ(refusal("socket,id=m,host=h"), "chardev: socket: no port given");
  EXPECT_EQ(refusal("socket,id=m,path=a,server=maybe"), "Parameter 'server' expects 'on' or 'off'");
  EXPECT_EQ(refusal("socket,id=m,path=a,host=b,port=1"), "One of 'path' and 'host' must be given");
}

}  // namespace
}  // namespace cairn::monitor
