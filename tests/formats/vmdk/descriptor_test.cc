// Descriptors: what is made is read, and what the field says of lines that are odd.
#include "formats/vmdk/descriptor.h"

#include <gtest/gtest.h>

namespace cairn::vmdk {
namespace {

TEST(VmdkDescriptor, WhatIsMadeIsRead) {
  const std::string text = make_descriptor({.id = 0x1234abcd,
                                            .parent = 0x55,
                                            .create_type = "monolithicFlat",
                                            .parent_name = "below.vmdk",
                                            .extents = "RW 7 FLAT \"a b.vmdk\" 3\n",
                                            .hardware_version = "4",
                                            .cylinders = 8,
                                            .heads = 16,
                                            .adapter_type = "ide",
                                            .tools_version = "5"});
  const auto ids = parse_content_ids(text);
  ASSERT_TRUE(ids);
  EXPECT_EQ(ids->id, 0x1234abcdu);
  EXPECT_EQ(ids->parent, 0x55u);
  EXPECT_EQ(ids->parent_name, "below.vmdk");
  EXPECT_EQ(text.substr(ids->id_offset, ids->id_digits), "1234abcd");
  EXPECT_EQ(parse_create_type(text).value_or(""), "monolithicFlat");
  const auto extents = parse_extents(text);
  ASSERT_TRUE(extents);
  ASSERT_EQ(extents->size(), 1u);
  EXPECT_EQ(extents->front().filename, "a b.vmdk");
  EXPECT_EQ(extents->front().sectors, 7u);
  EXPECT_EQ(extents->front().offset, 3u);
  EXPECT_EQ(probe_descriptor(text), 100);
}

TEST(VmdkDescriptor, PassesOverLinesThatAreNoExtentsForWriting) {
  for (const char* line :
       {"RDONLY 1 FLAT \"a\" 0", "NOACCESS 1 FLAT \"a\" 0", "RW many FLAT \"a\" 0",
        "RW 0 FLAT \"a\" 0", "RW -3 FLAT \"a\" 0", "RW 1 FLAT a 0", "RW 1 ZERO", "RW 1 ZERO \"a\"",
        "RW 1 FLAT \"\" 0", "RW 1", "RW", "# RW 1 FLAT \"a\" 0"}) {
    const auto extents = parse_extents(line);
    ASSERT_TRUE(extents) << line;
    EXPECT_TRUE(extents->empty()) << line;
  }
}

TEST(VmdkDescriptor, RefusesLinesThatDoNotFitTheirType) {
  for (const char* line : {"RW 1 FLAT \"a\"", "RW 1 FLAT \"a\" -5", "RW 1 VMFS \"a\" 3",
                           "RW 1 SPARSE \"a\" 0", "RW 1 WEIRD \"a\" 0"}) {
    const auto extents = parse_extents(line);
    ASSERT_FALSE(extents) << line;
    EXPECT_EQ(extents.error().message(), std::string("Invalid extent line: ") + line);
  }
}

TEST(VmdkDescriptor, TakesLinesHoweverTheyAreSpaced) {
  for (const char* line : {"RW 9 FLAT \"a\" 0 more", "  RW 9 FLAT \"a\" 0", "RW\t9 FLAT \"a\" 0",
                           "RW 9 FLAT \"a\" 0\r"}) {
    const auto extents = parse_extents(line);
    ASSERT_TRUE(extents && extents->size() == 1) << line;
    EXPECT_EQ(extents->front().sectors, 9u);
  }
}

TEST(VmdkDescriptor, NeedsContentIds) {
  EXPECT_FALSE(parse_content_ids(""));
  EXPECT_FALSE(parse_content_ids("CID=1\n"));
  EXPECT_FALSE(parse_content_ids("CID=zz\nparentCID=1\n"));
  EXPECT_FALSE(parse_content_ids("CID=1\nparentCID="));
  EXPECT_FALSE(parse_content_ids("parentCID"));
  const auto parent_alone = parse_content_ids("parentCID=ffffffff\n");
  ASSERT_TRUE(parent_alone);
  EXPECT_EQ(parent_alone->id, 0xffffffffu);
}

TEST(VmdkDescriptor, NeedsACreateTypeThatEnds) {
  EXPECT_FALSE(parse_create_type("version=1\n"));
  EXPECT_FALSE(parse_create_type("createType"));
  EXPECT_FALSE(parse_create_type("createType=\"flat"));
  EXPECT_FALSE(parse_create_type("createType=\"" + std::string(200, 'x') + "\""));
}

TEST(VmdkDescriptor, IsKnownByItsVersion) {
  EXPECT_EQ(probe_descriptor("# x\n\n   \r\nversion=3\r\n"), 100);
  EXPECT_EQ(probe_descriptor("# x\nversion=4\n"), 0);
  EXPECT_EQ(probe_descriptor("# x\nCID=1\nversion=1\n"), 0);
  EXPECT_EQ(probe_descriptor(""), 0);
}

}  // namespace
}  // namespace cairn::vmdk
