// What the options of a reopen mean, without anything that is reopened.
#include "block/reopen_options.h"

#include <gtest/gtest.h>

#include "block/driver_table.h"
#include "block/graph.h"
#include "block/node.h"
#include "schema/json_stream.h"
#include "schema/visit_block_options.h"
#include "schema/visit_containers.h"

namespace cairn::block {
namespace {

schema::BlockdevOptions parse(const char* text) {
  const auto json = schema::parse_json(text);
  EXPECT_TRUE(json);
  auto options = schema::decode<schema::BlockdevOptions>(*json);
  EXPECT_TRUE(options) << options.error().message();
  return std::move(*options);
}

constexpr std::string_view kReopenOptions[] = {"offset", "cache-size"};
constexpr DriverInfo kRawDriver{.name = "raw", .reopen_options = kReopenOptions};

std::string verdict(const char* before, const char* wanted) {
  const auto checked = check_changes(kRawDriver, parse(before), parse(wanted));
  return checked ? "" : checked.error().message();
}

TEST(ReopenOptionsTest, OnlyListedOptionsOfTheDriverMayChange) {
  constexpr const char* kPlain = R"({"driver": "raw", "file": "f", "offset": 0})";
  EXPECT_EQ(verdict(kPlain, R"({"driver": "raw", "file": "f", "offset": 512})"), "");
  EXPECT_EQ(verdict(kPlain, R"({"driver": "raw", "file": "g"})"), "")
      << "children are judged apart";
  EXPECT_EQ(verdict(kPlain, R"({"driver": "raw", "file": "f", "size": 512})"),
            "Cannot change the option 'size'");
  EXPECT_EQ(verdict(R"({"driver": "raw", "file": "f", "size": 512})", kPlain),
            "Option 'size' cannot be reset to its default value");
  EXPECT_EQ(verdict(kPlain, R"({"driver": "qcow2", "file": "f"})"),
            "Cannot change the option 'driver'");
}

TEST(ReopenOptionsTest, ValuesCountAsTheyWereGiven) {
  constexpr const char* kFile = R"({"driver": "file", "filename": "a"})";
  EXPECT_EQ(verdict(kFile, R"({"driver": "file", "filename": "./a"})"),
            "Cannot change the option 'filename'");
  EXPECT_EQ(verdict(kFile, R"({"driver": "file", "filename": "a", "locking": "auto"})"),
            "Cannot change the option 'locking'");
  EXPECT_EQ(verdict(kFile, R"({"driver": "file", "filename": "a", "force-share": true})"),
            "Cannot change the option 'force-share'");
  EXPECT_EQ(verdict(kFile, R"({"driver": "file", "filename": "a", "read-only": true,
                               "auto-read-only": true, "detect-zeroes": "on",
                               "cache": {"direct": true}, "discard": "unmap"})"),
            "");
}

TEST(ReopenOptionsTest, MembersOfMembersAreNamedByTheirPath) {
  constexpr const char* kServer = R"({"driver": "nbd", "server": {"type": "unix", "path": "a"}})";
  EXPECT_EQ(verdict(kServer, R"({"driver": "nbd", "server": {"type": "unix", "path": "b"}})"),
            "Cannot change the option 'server.path'");
}

TEST(ReopenOptionsTest, AChildFollowsWhatItsParentSaysInWords) {
  const auto said = parse(R"({"driver": "raw", "file": "f", "read-only": true,
                              "cache": {"no-flush": true}})");
  const NodeOptions now{.discard_unmap = true, .cache_direct = true};
  const OpenFlags file = Inherited::from(said, {}, ChildRole::kImage).flags(now);
  EXPECT_TRUE(file.read_only);
  EXPECT_TRUE(file.no_flush);
  EXPECT_TRUE(file.cache_direct) << "nobody speaks of it";
  EXPECT_TRUE(file.discard_unmap);
  const OpenFlags backing = Inherited::from(said, {}, ChildRole::kBacking).flags(now);
  EXPECT_FALSE(backing.read_only) << "a backing node is what it is";
  EXPECT_TRUE(backing.no_flush);
}

TEST(ReopenOptionsTest, WhatIsNotMentionedComesFromTheOptionsBefore) {
  const auto merged = merge_options(
      parse(R"({"driver": "file", "filename": "a", "read-only": false})"),
      parse(R"({"driver": "file", "filename": "b", "read-only": true, "discard": "unmap"})"));
  EXPECT_EQ(merged.read_only, false);
  EXPECT_EQ(merged.discard, schema::BlockdevDiscardOptions::kUnmap);
  EXPECT_EQ(std::get<schema::BlockdevOptionsFile>(merged.branch).filename, "a");
}

TEST(ReopenOptionsTest, ChildrenAreFoundWhateverTheDriver) {
  const auto options = parse(R"({"driver": "qcow2", "file": "f", "backing": null,
                                 "data-file": {"driver": "file", "filename": "d"}})");
  EXPECT_EQ(*child_wish(options, "file").name, "f");
  EXPECT_EQ(child_wish(options, "backing").kind, ChildWish::Kind::kNull);
  EXPECT_EQ(child_wish(options, "data-file").kind, ChildWish::Kind::kInline);
  EXPECT_EQ(child_wish(parse(R"({"driver": "null-co"})"), "file").kind, ChildWish::Kind::kNothing);
}

}  // namespace
}  // namespace cairn::block
