// What addresses of the schema become, and what is refused.
#include "chardev/address.h"

#include <gtest/gtest.h>

namespace cairn::chardev {
namespace {

using Family = io::SocketAddress::Family;
using Kind = io::SocketAddress::Kind;

schema::InetSocketAddress inet(std::string host, std::string port) {
  schema::InetSocketAddress address;
  address.host = std::move(host);
  address.port = std::move(port);
  return address;
}

Result<io::SocketAddress> convert(const schema::InetSocketAddress& inet, Use use) {
  schema::SocketAddress address;
  address.type = schema::SocketAddressType::kInet;
  address.branch = inet;
  return to_io(address, use);
}

std::string refusal(const schema::InetSocketAddress& inet, Use use = Use::kListen) {
  const auto converted = convert(inet, use);
  return converted ? "" : converted.error().message();
}

TEST(AddressTest, AFamilyThatIsAskedForExcludesTheOther) {
  schema::InetSocketAddress address = inet("localhost", "1");
  EXPECT_EQ(convert(address, Use::kListen)->family, Family::kAny);
  address.ipv6 = true;
  EXPECT_EQ(convert(address, Use::kListen)->family, Family::kIpv6);
  address.ipv4 = true;
  EXPECT_EQ(convert(address, Use::kListen)->family, Family::kAny);
  address.ipv6 = false;
  EXPECT_EQ(convert(address, Use::kListen)->family, Family::kIpv4);
  address.ipv4 = false;
  EXPECT_EQ(refusal(address), "Cannot disable IPv4 and IPv6 at same time");
}

TEST(AddressTest, WhoListensAtANumericAddressResolvesNoName) {
  schema::InetSocketAddress address = inet("localhost", "0");
  address.numeric = true;
  EXPECT_EQ(refusal(address),
            "address resolution failed for localhost:0: Name or service not known");
  EXPECT_EQ(refusal(address, Use::kConnect), "");
  for (const char* host : {"127.0.0.1", "::1", ""}) {
    address.host = host;
    EXPECT_EQ(refusal(address), "");
  }
  address.host = "localhost";
  address.numeric = false;
  EXPECT_EQ(refusal(address), "");
}

TEST(AddressTest, TheLastPortIsNotBelowTheFirst) {
  schema::InetSocketAddress address = inet("127.0.0.1", "100");
  address.to = 99;
  EXPECT_EQ(refusal(address), "Failed to create a socket");
  EXPECT_EQ(refusal(address, Use::kConnect), "");
  address.to = 100;
  EXPECT_EQ(convert(address, Use::kListen)->last_port, 100);
}

TEST(AddressTest, KeepAliveComesWithItsNumbersOrNotAtAll) {
  schema::InetSocketAddress address = inet("127.0.0.1", "1");
  address.keep_alive_count = 3;
  EXPECT_FALSE(convert(address, Use::kListen)->keep_alive);
  address.keep_alive = true;
  ASSERT_TRUE(convert(address, Use::kListen)->keep_alive);
  EXPECT_EQ(convert(address, Use::kListen)->keep_alive->count, 3U);
}

TEST(AddressTest, VsockAddressesStayAsTheyAreWritten) {
  schema::VsockSocketAddress vsock;
  vsock.cid = "3";
  vsock.port = "10809";
  schema::SocketAddress address;
  address.type = schema::SocketAddressType::kVsock;
  address.branch = vsock;
  const auto converted = to_io(address, Use::kListen);
  ASSERT_TRUE(converted);
  EXPECT_EQ(converted->kind, Kind::kVsock);
  EXPECT_EQ(converted->to_string(), "vsock:3:10809");
}

}  // namespace
}  // namespace cairn::chardev
