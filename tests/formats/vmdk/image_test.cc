// Images made, written to and read back: tables, content ids, parents, zeroed and compressed
// grains.
#include "base/bytes.h"
#include "tests/formats/vmdk/vmdk_test.h"

namespace cairn::vmdk {
namespace {

constexpr uint64_t kMiB = 1 << 20;
// Of an image of 4 MiB: its only table, and the redundant one.
constexpr uint64_t kTable = 0x3600;
constexpr uint64_t kRedundantTable = 0x2c00;

TEST_F(VmdkTest, ANewImageHasTheKnownLayout) {
  start({{"size", "4194304"}});
  close();
  EXPECT_EQ(image_.number<uint32_t>(0), kSparseMagic);
  EXPECT_EQ(image_.number<uint64_t>(12), 8192u);
  EXPECT_EQ(image_.number<uint64_t>(48), 0x15u);
  EXPECT_EQ(image_.number<uint64_t>(56), 0x1au);
  EXPECT_EQ(image_.number<uint64_t>(64), 0x80u);
  EXPECT_EQ(image_.number<uint32_t>(0x2a00), 0x16u);
  EXPECT_EQ(image_.number<uint32_t>(0x3400), 0x1bu);
  EXPECT_EQ(image_.file().disk.visible().size(), 65536u);
}

TEST_F(VmdkTest, BothTablesPointToANewGrain) {
  start({{"size", "4194304"}});
  ASSERT_TRUE(image_.write(1, kMiB + 100, 512));
  EXPECT_EQ(image_.number<uint32_t>(kTable + 64), 0u) << "before the data is durable";
  ASSERT_TRUE(image_.flush());
  EXPECT_EQ(image_.number<uint32_t>(kTable + 64), 0x80u);
  EXPECT_EQ(image_.number<uint32_t>(kRedundantTable + 64), 0x80u);
  EXPECT_EQ(image_.file().disk.visible().size(), 2 * kGrain);
  EXPECT_TRUE(image_.holds(1, kMiB + 100, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kMiB, 100));
  EXPECT_TRUE(image_.check());
  close();
  open(false);
  EXPECT_TRUE(image_.holds(1, kMiB + 100, 512));
}

TEST_F(VmdkTest, TheContentIdChangesOnceAnOpening) {
  start({{"size", "4194304"}});
  const uint32_t before = image_.driver().content().id();
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, 4096));
  EXPECT_EQ(image_.driver().content().id(), before);
  ASSERT_TRUE(image_.write(1, 0, 512));
  const uint32_t after = image_.driver().content().id();
  EXPECT_NE(after, before);
  ASSERT_TRUE(image_.write(2, 0, 512));
  EXPECT_EQ(image_.driver().content().id(), after);
  close();
  open();
  EXPECT_EQ(image_.driver().content().id(), after);
}

TEST_F(VmdkTest, WritesInPlaceChangeTheContentIdFirst) {
  start({{"size", "4194304"}, {"subformat", "monolithicFlat"}});
  const uint32_t before = image_.driver().content().id();
  image_.world().add_fault({.kind = testing::IoKind::kWrite, .file = "image.vmdk"});
  EXPECT_FALSE(image_.write(1, 0, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 0, 512));
  EXPECT_EQ(image_.driver().content().id(), before);
  ASSERT_TRUE(image_.write(1, 0, 512));
  EXPECT_TRUE(image_.holds(1, 0, 512));
  EXPECT_NE(image_.driver().content().id(), before);
}

TEST_F(VmdkTest, ReadsThroughToItsParentUntilThatChanges) {
  ASSERT_TRUE(image_.create({{"size", "4194304"}}, "below.vmdk"));
  ASSERT_TRUE(image_.open(true, "below.vmdk"));
  ASSERT_TRUE(image_.write(1, 0, 4 * kGrain));
  close();
  start({{"size", "4194304"}, {"backing_file", "below.vmdk"}, {"backing_fmt", "vmdk"}});
  EXPECT_EQ(image_.driver().backing_filename(), "below.vmdk");
  ASSERT_TRUE(image_.write(2, kGrain + 512, 512));
  EXPECT_TRUE(image_.holds(1, kGrain, 512));
  EXPECT_TRUE(image_.holds(2, kGrain + 512, 512));
  EXPECT_TRUE(image_.holds(1, kGrain + 1024, kGrain));
  close();
  ASSERT_TRUE(image_.open(true, "below.vmdk"));
  ASSERT_TRUE(image_.write(3, 0, 512));
  close();
  open(false);
  EXPECT_TRUE(image_.holds(2, kGrain + 512, 512)) << "what it has itself";
  std::vector<std::byte> data(512);
  const auto read = image_.run(image_.edge().read(0, data.data(), data.size()));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), EINVAL);
}

TEST_F(VmdkTest, ZeroesByMarkingGrainsWhereItCan) {
  start({{"size", "4194304"}, {"zeroed_grain", "on"}});
  ASSERT_TRUE(image_.write(1, 0, 3 * kGrain));
  ASSERT_TRUE(image_.zero(kGrain, kGrain));
  ASSERT_TRUE(image_.flush());
  EXPECT_EQ(image_.number<uint32_t>(kTable + 4), kEntryZeroed);
  EXPECT_EQ(image_.number<uint32_t>(kRedundantTable + 4), kEntryZeroed);
  EXPECT_TRUE(image_.holds(1, 0, kGrain));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kGrain, kGrain));
  ASSERT_TRUE(image_.write(2, kGrain + 4096, 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kGrain, 4096));
  EXPECT_TRUE(image_.holds(2, kGrain + 4096, 512));
  EXPECT_TRUE(image_.holds(1, 2 * kGrain, kGrain));
}

TEST_F(VmdkTest, WritesZeroesOutWhereItCanNot) {
  start({{"size", "4194304"}});
  ASSERT_TRUE(image_.write(1, 0, 3 * kGrain));
  ASSERT_TRUE(image_.zero(kGrain - 512, kGrain));
  EXPECT_TRUE(image_.holds(1, 0, kGrain - 512));
  EXPECT_TRUE(image_.holds(testing::kZeroes, kGrain - 512, kGrain));
  EXPECT_TRUE(image_.holds(1, 2 * kGrain - 512, kGrain));
}

TEST_F(VmdkTest, AStreamTakesEveryGrainOnceAndWhole) {
  start({{"size", "1048576"}, {"subformat", "streamOptimized"}});
  ASSERT_TRUE(image_.write(1, kGrain, 2 * kGrain));  // does not get any shorter
  ASSERT_TRUE(image_.zero(4 * kGrain, kGrain));
  const auto partial = image_.write(2, 0, 4096);
  ASSERT_FALSE(partial);
  EXPECT_EQ(partial.error().code(), EINVAL);
  ::testing::internal::CaptureStderr();
  const auto again = image_.write(2, kGrain, kGrain);
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "Could not write to allocated cluster for streamOptimized\n");
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), EIO);
  close();
  open(false);
  EXPECT_TRUE(image_.holds(1, kGrain, 2 * kGrain));
  EXPECT_TRUE(image_.holds(1, 2 * kGrain - 100, 300));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 3 * kGrain, 13 * kGrain));
}

TEST_F(VmdkTest, AStreamMayHaveItsDirectoryAtItsEnd) {
  start({{"size", "1048576"}, {"subformat", "streamOptimized"}});
  ASSERT_TRUE(image_.write(1, 0, kGrain));
  close();
  testing::SparseBytes bytes = image_.file().disk.visible();
  std::vector<std::byte> footer(3 * kSector);
  store_le<uint32_t>(footer.data() + 12, kMarkerFooter);
  const std::vector<std::byte> header = bytes.read(0, kSector);
  std::ranges::copy(header, footer.begin() + kSector);
  bytes.write(bytes.size(), footer);
  std::array<std::byte, 8> at_end{};
  at_end.fill(std::byte{0xff});
  bytes.write(56, at_end);
  image_.world().add("image.vmdk", bytes);
  open(false);
  EXPECT_TRUE(image_.holds(1, 0, kGrain));
  close();
  bytes.write(bytes.size() - 4, std::vector<std::byte>(4, std::byte{1}));
  bytes.write(bytes.size() - kSector + 8, std::vector<std::byte>(1, std::byte{1}));
  image_.world().add("image.vmdk", bytes);
  EXPECT_EQ(image_.open(false).error().message(), "Invalid footer");
}

TEST_F(VmdkTest, DiskIsDividedAmongExtents) {
  constexpr uint64_t kSplit = uint64_t{2} << 30;
  for (const char* subformat : {"twoGbMaxExtentSparse", "twoGbMaxExtentFlat"}) {
    start({{"size", "5368709120"}, {"subformat", subformat}});
    ASSERT_TRUE(image_.write(1, kSplit - kMiB, 2 * kMiB));
    ASSERT_TRUE(image_.write(2, 2 * kSplit - 512, 1024));
    EXPECT_TRUE(image_.holds(1, kSplit - kMiB, 2 * kMiB));
    close();
    open(false);
    EXPECT_TRUE(image_.holds(1, kSplit - kMiB, 2 * kMiB));
    EXPECT_TRUE(image_.holds(2, 2 * kSplit - 512, 1024));
    EXPECT_TRUE(image_.holds(testing::kZeroes, 2 * kSplit + 512, kMiB));
    EXPECT_TRUE(image_.check());
    close();
  }
}

TEST_F(VmdkTest, ExtentsMayBeginWithinAGrain) {
  ASSERT_TRUE(image_.create({{"size", "102400"}, {"subformat", "twoGbMaxExtentSparse"}}, "a.vmdk"));
  ASSERT_TRUE(
      image_.create({{"size", "1048576"}, {"subformat", "twoGbMaxExtentSparse"}}, "b.vmdk"));
  const std::string text =
      "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
      "createType=\"twoGbMaxExtentSparse\"\nRW 200 SPARSE \"a-s001.vmdk\"\n"
      "RW 2048 SPARSE \"b-s001.vmdk\"\n";
  testing::SparseBytes descriptor;
  descriptor.write(0, std::as_bytes(std::span(text)));
  image_.world().add("image.vmdk", descriptor);
  open();
  EXPECT_EQ(image_.edge().length(), 102400u + kMiB);
  ASSERT_TRUE(image_.write(1, 90000, 200000));
  ASSERT_TRUE(image_.write(2, 102400 + 1000, 100));
  EXPECT_TRUE(image_.holds(1, 90000, 13400));
  EXPECT_TRUE(image_.holds(2, 103400, 100));
  close();
  open(false);
  EXPECT_TRUE(image_.holds(1, 104000, 186000));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 290000, kMiB - 190000));
}

TEST_F(VmdkTest, AnImageMayBeForbiddenToNameFiles) {
  ASSERT_TRUE(image_.create({{"size", "1048576"}, {"subformat", "monolithicFlat"}}));
  image_.graph().set_open_policy({.follow_names = false});
  const auto opened = image_.open(false);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), EPERM);
}

TEST_F(VmdkTest, OptionsThatDoNotGoTogetherAreRefused) {
  const auto message = [&](const VmdkWorld::Options& options) {
    const auto created = image_.create(options);
    return created ? "created" : created.error().message();
  };
  EXPECT_EQ(message({{"subformat", "bogus"}}), "invalid parameter value: bogus");
  EXPECT_EQ(message({{"adapter_type", "bogus"}}), "invalid parameter value: bogus");
  EXPECT_EQ(message({{"compat6", "on"}, {"hwversion", "7"}}),
            "compat6 cannot be enabled with hwversion set");
  EXPECT_EQ(message({{"subformat", "monolithicFlat"}, {"zeroed_grain", "on"}}),
            "Flat image can't enable zeroed grain");
  EXPECT_EQ(message({{"subformat", "monolithicFlat"}, {"backing_file", "x"}}),
            "Flat image can't have backing file");
  EXPECT_EQ(message({{"size", "7E"}}), "The image size is too large for file format 'vmdk'");
  EXPECT_EQ(message({{"size", "7E"}, {"subformat", "twoGbMaxExtentFlat"}}),
            "The image size is too large for file format 'vmdk'");
  EXPECT_EQ(image_.world().find("image.vmdk"), nullptr);
}

TEST_F(VmdkTest, AStreamKeepsWholeGrainsInFrontOfAPart) {
  start({{"size", "1048576"}, {"subformat", "streamOptimized"}});
  const auto partial = image_.write(1, 0, 2 * kGrain + 512);
  ASSERT_FALSE(partial);
  EXPECT_EQ(partial.error().code(), EINVAL);
  EXPECT_TRUE(image_.holds(1, 0, 2 * kGrain));
  EXPECT_TRUE(image_.holds(testing::kZeroes, 2 * kGrain, kGrain));
}

TEST_F(VmdkTest, WhatIsToBeCompressedIsWrittenPlainlyWhereNothingIs) {
  start({{"size", "1048576"}});
  for (const testing::WriteNumber number : {1, 2}) {  // a new grain, and in place
    ASSERT_TRUE(image_.write(number, 0, kGrain, {.compressed = true}));
    EXPECT_TRUE(image_.holds(number, 0, kGrain));
  }
}

}  // namespace
}  // namespace cairn::vmdk
