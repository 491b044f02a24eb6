// parse_chardev: what it takes, and the words in which it refuses.
#include "chardev/command_line.h"

#include <string>
#include <variant>

#include <gtest/gtest.h>

namespace cairn::chardev {
namespace {

std::string refusal(std::string_view text) {
  const auto parsed = parse_chardev(text);
  return parsed ? "accepted" : parsed.error().message();
}

template <typename Wrapper>
auto options(std::string_view text) {
  const auto parsed = parse_chardev(text);
  EXPECT_TRUE(parsed.has_value()) << parsed.error().message();
  return std::get<Wrapper>(parsed->backend.branch).data;
}

TEST(ChardevText, ReadsASocketServer) {
  const auto socket =
      options<schema::ChardevSocketWrapper>("socket,id=m,path=a.sock,server=on,wait=off");
  EXPECT_EQ(std::get<schema::UnixSocketAddressWrapper>(socket.addr.branch).data.path, "a.sock");
  EXPECT_EQ(socket.server, true);
  EXPECT_EQ(socket.wait, false);
}

TEST(ChardevText, WaitsForAClientUnlessToldOtherwise) {
  EXPECT_EQ(options<schema::ChardevSocketWrapper>("socket,id=m,path=a,server=on").wait, true);
  EXPECT_EQ(options<schema::ChardevSocketWrapper>("socket,id=m,path=a").wait, std::nullopt);
  EXPECT_EQ(options<schema::ChardevSocketWrapper>("socket,id=m,path=a").server, false);
}

TEST(ChardevText, ReadsAnInternetAddress) {
  const auto socket = options<schema::ChardevSocketWrapper>(
      "socket,id=m,host=::1,port=4444,to=4450,server=on,ipv6=on");
  const auto inet = std::get<schema::InetSocketAddressWrapper>(socket.addr.branch).data;
  EXPECT_EQ(inet.host, "::1");
  EXPECT_EQ(inet.port, "4444");
  EXPECT_EQ(inet.to, 4450);
  EXPECT_EQ(inet.ipv6, true);
}

TEST(ChardevText, ReadsWhenToReconnect) {
  EXPECT_EQ(options<schema::ChardevSocketWrapper>("socket,id=m,path=a,reconnect=2").reconnect_ms,
            2000);
  EXPECT_EQ(options<schema::ChardevSocketWrapper>("socket,id=m,fd=3,reconnect-ms=5").reconnect_ms,
            5);
}

TEST(ChardevText, ReadsTheOtherKinds) {
  const auto file =
      options<schema::ChardevFileWrapper>("file,id=m,path=o,input-path=i,append=on,logfile=l");
  EXPECT_EQ(file.out, "o");
  EXPECT_EQ(file.in, "i");
  EXPECT_EQ(file.append, true);
  EXPECT_EQ(file.logfile, "l");
  EXPECT_EQ(options<schema::ChardevHostdevWrapper>("pipe,id=m,path=p").device, "p");
  EXPECT_EQ(options<schema::ChardevRingbufWrapper>("ringbuf,id=m,size=4k").size, 4096);
  EXPECT_EQ(options<schema::ChardevRingbufWrapper>("memory,id=m").size, std::nullopt);
  EXPECT_EQ(options<schema::ChardevStdioWrapper>("stdio,id=m,signal=off").signal, false);
  EXPECT_EQ(options<schema::ChardevPtyWrapper>("pty,id=m,path=l").path, "l");
  EXPECT_EQ(options<schema::ChardevCommonWrapper>("null,id=m,logappend=on").logappend, true);
}

TEST(ChardevText, SaysWhatIsWrong) {
  const std::pair<const char*, const char*> cases[] = {
      {"nope,id=m", "'nope' is not a valid char driver name"},
      {"null", "chardev: no id specified"},
      {"", "chardev: no id specified"},
      {"nosuch", "chardev: no id specified"},
      {"id=m", "chardev: \"m\" missing backend"},
      {"socket,id=1m,path=a", "Parameter 'id' expects an identifier"},
      {"socket,id=m,path=a,bogus=1", "Invalid parameter 'bogus'"},
      {"socket,id=m,bogus=1", "Invalid parameter 'bogus'"},
      {"socket,id=m,host=h", "chardev: socket: no port given"},
      {"socket,id=m,path=a,server=maybe", "Parameter 'server' expects 'on' or 'off'"},
      {"socket,id=m,path=a,host=b,port=1",
       "None or one of 'path', 'fd' or 'host' option required."},
      {"socket,id=m,path=a,reconnect=x", "Parameter 'reconnect' expects a number"},
      {"socket,id=m,path=a,reconnect=1,reconnect-ms=1",
       "'reconnect' and 'reconnect-ms' are mutually exclusive"},
      {"socket,id=m,host=h,port=1,to=70000", "Parameter 'to' expects a number"},
      {"file,id=m", "chardev: file: no filename given"},
      {"file,id=m,path=a,size=1", "Invalid parameter 'size'"},
      {"pipe,id=m", "chardev: pipe: no device path given"},
      {"ringbuf,id=m,size=x", "Parameter 'size' expects a non-negative number below 2^64"},
      {"stdio,id=m,signal=x", "Parameter 'signal' expects 'on' or 'off'"},
      {"pty,id=m,logtimestamp=x", "Parameter 'logtimestamp' expects 'on' or 'off'"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_EQ(refusal(text), message) << text;
  }
}

}  // namespace
}  // namespace cairn::chardev
