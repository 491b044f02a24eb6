// Tests of block/filename.h: what filenames mean, by themselves and to a driver that was chosen.
#include "block/filename.h"

#include <string>

#include <gtest/gtest.h>

#include "schema/visit_block_options.h"

namespace cairn::block {
namespace {

std::string told(const Result<schema::BlockdevOptions>& options) {
  return options ? to_text(schema::to_json(*options)) : options.error().message();
}

TEST(Filename, NullDriversHaveOneNameEach) {
  EXPECT_EQ(told(parse_filename("null-co://")), R"({"driver": "null-co"})");
  EXPECT_EQ(told(parse_filename("null-aio://")), R"({"driver": "null-aio"})");
  EXPECT_EQ(told(parse_filename("null-co:x")),
            "The only allowed filename for this driver is 'null-co://'");
  EXPECT_EQ(told(parse_filename_for("null-co", "a.raw")),
            "The only allowed filename for this driver is 'null-co://'");
}

TEST(Filename, AColonInFrontIsAProtocolWithoutAName) {
  EXPECT_EQ(told(parse_filename(":x")), "Unknown protocol ''");
  EXPECT_EQ(told(parse_filename("bogus:x")), "Unknown protocol 'bogus'");
}

TEST(Filename, ToADriverOfFilesEverythingIsAPath) {
  EXPECT_EQ(told(parse_filename_for("file", "nbd:unix:s")),
            R"({"driver": "file", "filename": "nbd:unix:s"})");
  EXPECT_EQ(told(parse_filename_for("file", "file:a")), R"({"driver": "file", "filename": "a"})");
  EXPECT_EQ(told(parse_filename_for("host_device", ":x")),
            R"({"driver": "host_device", "filename": ":x"})");
  EXPECT_EQ(told(parse_filename_for("file", "/dev/null")),
            R"({"driver": "host_device", "filename": "/dev/null"})");
}

TEST(Filename, OtherDriversRefuseWhatIsNotTheirs) {
  EXPECT_EQ(told(parse_filename_for("nbd", "a.raw")),
            "File name string for NBD must start with 'nbd:'");
  EXPECT_EQ(told(parse_filename_for("blkverify", "a.raw")),
            "A block device must be specified for \"raw\"");
  EXPECT_EQ(told(parse_filename_for("blklogwrites", "a.raw")),
            "A block device must be specified for \"log\"");
  EXPECT_EQ(told(parse_filename_for("chaos", "a.raw")),
            "A block device must be specified for \"image\"");
  EXPECT_EQ(told(parse_filename_for("blkdebug", "a.raw")),
            R"({"driver": "blkdebug", "image": {"driver": "file", "filename": "a.raw"}})");
}

}  // namespace
}  // namespace cairn::block
