// Tests of tools/common/image_options.h: what lists of options and "json:" names stand for.
#include "tools/common/image_options.h"

#include <string>

#include <gtest/gtest.h>

#include "schema/json_stream.h"
#include "tools/common/report.h"
#include "tools/common/session.h"

namespace cairn::tools {
namespace {

// The options as JSON, or why there are none.
std::string parsed(std::string_view text, std::string_view implied_key = "file") {
  const auto options = parse_option_string(text, implied_key);
  return options ? to_text(schema::JsonValue(*options)) : options.error().message();
}

// The options after normalize_options(), or its failure.
std::string normal(std::string_view text) {
  auto options = parse_option_string(text, "file");
  if (!options) {
    return options.error().message();
  }
  const auto done = normalize_options(*options);
  return done ? to_text(schema::JsonValue(*options)) : done.error().message();
}

TEST(ImageOptions, AFirstPartWithoutAValueNamesANode) {
  EXPECT_EQ(parsed("disk,driver=raw"), R"({"file": "disk", "driver": "raw"})");
  EXPECT_EQ(parsed("help"), R"({"file": "help"})");
  EXPECT_EQ(parsed(","), R"({"file": ""})");
  EXPECT_EQ(parsed(""), "{}");
  EXPECT_EQ(parsed("driver=raw,file.filename=a,,b"),
            R"({"driver": "raw", "file": {"filename": "a,b"}})");
}

TEST(ImageOptions, WithoutAnImpliedKeyItIsOn) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(parsed("disk", ""), R"({"disk": "on"})");
  EXPECT_NE(testing::internal::GetCapturedStderr().find("short-form boolean option 'disk'"),
            std::string::npos);
  EXPECT_EQ(parsed("=x", ""), "{}");
}

TEST(ImageOptions, PartsWithoutAValueAreOnWhereverTheyAre) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(parsed("driver=raw,foo,size=1"), R"({"foo": "on", "driver": "raw", "size": "1"})");
  EXPECT_EQ(
      testing::internal::GetCapturedStderr(),
      std::string(program_name()) +
          ": warning: short-form boolean option 'foo' deprecated\nPlease use foo=on instead\n");
  EXPECT_EQ(parsed("driver=raw,help"), R"({"driver": "raw"})");
}

TEST(ImageOptions, ANodeThatIsNamedHasNoOptions) {
  EXPECT_EQ(parsed("disk,file.filename=x"),
            "Cannot reference an existing block device with additional options or a new filename");
}

TEST(ImageOptions, NamesWithDotsCountLessThanObjects) {
  const auto options = parse_json_name(
      R"(json:{"file": {"filename": "a"}, "file.filename": "b", "file.aio": "threads"})");
  ASSERT_TRUE(options);
  EXPECT_EQ(to_text(schema::JsonValue(*options)),
            R"({"file": {"aio": "threads", "filename": "a"}})");
}

TEST(ImageOptions, NamesWithDotsAreTakenApartInListsToo) {
  const auto options = parse_json_name(R"(json:{"children": [{"file.filename": "a"}]})");
  ASSERT_TRUE(options);
  EXPECT_EQ(to_text(schema::JsonValue(*options)), R"({"children": [{"file": {"filename": "a"}}]})");
}

TEST(ImageOptions, SizesHaveSuffixes) {
  EXPECT_EQ(normal("driver=raw,size=64k"), R"({"driver": "raw", "size": "65536"})");
  EXPECT_EQ(normal("driver=raw,size=x"),
            "Parameter 'size' expects a non-negative number below 2^64");
  EXPECT_EQ(normal("driver=raw,size=99999999999999999999"),
            "Value '99999999999999999999' is out of range for parameter 'size'");
}

TEST(ImageOptions, SizesOfOtherDriversAreNotRead) {
  EXPECT_EQ(normal("driver=qcow2,size=x"), R"({"driver": "qcow2", "size": "x"})");
}

TEST(ImageOptions, AServerHasOneAddress) {
  EXPECT_EQ(normal("driver=nbd,path=/s,host=h"), "path and host may not be used at the same time");
}

TEST(ImageOptions, ServersHaveAShortForm) {
  EXPECT_EQ(normal("driver=nbd,path=/s,export=e"),
            R"({"driver": "nbd", "export": "e", "server": {"type": "unix", "path": "/s"}})");
  EXPECT_EQ(normal("driver=nbd,host=h"),
            R"({"driver": "nbd", "server": {"type": "inet", "host": "h", "port": "10809"}})");
  EXPECT_EQ(normal("driver=nbd,host=h,port=1"),
            R"({"driver": "nbd", "server": {"type": "inet", "host": "h", "port": "1"}})");
}

TEST(ImageOptions, ErrorsNameTheDriverAndTheOption) {
  auto session = Session::create();
  ASSERT_TRUE(session);
  const auto refusal = [&](std::string_view text) {
    const auto options = parse_option_string(text, "file");
    const auto decoded = decode_options((*session)->graph(), *options);
    return decoded ? Error(0, "none") : decoded.error();
  };
  const Error unknown = refusal("driver=raw,file.driver=file,file.filename=a,bogus=1");
  EXPECT_EQ(unknown.message(), "Block format 'raw' does not support the option 'bogus'");
  EXPECT_EQ(unknown_option_of(unknown), "bogus");
  const Error below = refusal("driver=raw,file.driver=file,file.filename=a,file.bogus=1");
  EXPECT_EQ(below.message(), "Block protocol 'file' doesn't support the option 'bogus'");
  EXPECT_EQ(refusal("driver=blkdebug").message(), "A block device must be specified for \"image\"");
  EXPECT_EQ(refusal("driver=file,filename=a,aio=bogus").message(),
            "invalid parameter value: bogus");
  EXPECT_EQ(refusal("driver=file,filename=a,discard=bogus").message(), "Invalid discard option");
  EXPECT_EQ(unknown_option_of(refusal("driver=blkdebug")), "");
}

}  // namespace
}  // namespace cairn::tools
