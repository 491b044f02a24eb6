// Space-efficient extents: every kind of entry, headers of any content, and what is refused.
#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <string>

#include "schema/types_block_info.h"
#include "schema/types_block_options.h"
#include "tests/formats/vmdk/se_sparse_image.h"
#include "tests/formats/vmdk/vmdk_test.h"

namespace cairn::vmdk {
namespace {

using testing::SeSparseImage;

constexpr uint64_t kSe = SeSparseImage::kGrain;
constexpr uint64_t kSectors = 8192;  // of most disks here

class SeSparseTest : public VmdkTest {
 protected:
  static std::string descriptor(const std::string& lines, const std::string& more = {}) {
    const std::string parent = more.empty() ? "parentCID=ffffffff\n" : more;
    return "# Disk DescriptorFile\nversion=1\nCID=12345678\n" + parent +
           "createType=\"seSparse\"\n# Extent description\n" + lines + "# The end\n";
  }
  void add(const std::string& name, std::span<const std::byte> bytes) {
    testing::SparseBytes content;
    content.write(0, bytes);
    image_.world().remove(name);
    image_.world().add(name, content);
  }
  void use(SeSparseImage& image, const std::string& more = {}) {
    add("e.vmdk", image.bytes());
    use_descriptor(descriptor("RW 8192 SESPARSE \"e.vmdk\"\n", more));
  }
  void use_descriptor(const std::string& text) {
    add("image.vmdk", std::as_bytes(std::span(text)));
  }
  // Whether all bytes of a range are this one; the error's number when they can not be read.
  int byte_at(uint64_t offset, uint64_t length) {
    std::vector<unsigned char> data(length);
    const Result<void> read = image_.run(image_.edge().read(offset, data.data(), length));
    if (!read) {
      return -read.error().code();
    }
    const bool same = std::ranges::all_of(data, [&](int byte) { return byte == data[0]; });
    return same ? data[0] : 1000;
  }
  std::string refusal(SeSparseImage& image) {
    use(image);
    const auto opened = image_.open(false);
    if (!opened) {
      return opened.error().message();
    }
    close();
    return {};
  }
  // What is said when the number at `offset` is another one.
  std::string refusal(uint64_t offset, uint64_t number) {
    SeSparseImage image(kSectors);
    image.put(offset, number);
    return refusal(image);
  }
  // What a check says; empty for nothing.
  std::string complaint() {
    std::string said;
    block::CheckOptions options;
    options.report = [&said](std::string_view text) { said = text; };
    const auto checked = image_.run(image_.driver().check(options));
    EXPECT_EQ(checked.has_value(), said.empty());
    return said;
  }
};

TEST_F(SeSparseTest, EveryKindOfEntryIsRead) {
  SeSparseImage image(kSectors);
  for (int number = 0; number < 16; ++number) {
    image.fill_grain(static_cast<uint64_t>(number), number + 1);
  }
  image.set_grain(0, SeSparseImage::allocated(3));
  image.set_grain(1, SeSparseImage::allocated(4));
  image.set_grain(2, SeSparseImage::zeroed());
  image.set_grain(3, SeSparseImage::unmapped(5));
  image.set_grain(5, SeSparseImage::allocated(0));
  use(image);
  open(false);
  EXPECT_EQ(image_.edge().length(), kSectors * kSector);
  EXPECT_EQ(image_.driver().cluster_size(), kSe);
  EXPECT_EQ(byte_at(0, kSe), 4);
  EXPECT_EQ(byte_at(kSe + 100, 1000), 5);
  EXPECT_EQ(byte_at(2 * kSe, 3 * kSe), 0);
  EXPECT_EQ(byte_at(5 * kSe, kSe), 1);
  EXPECT_EQ(byte_at(6 * kSe, kSectors * kSector - 6 * kSe), 0);
  EXPECT_EQ(complaint(), "");
}

TEST_F(SeSparseTest, NeighboursAreOneExtent) {
  SeSparseImage image(kSectors);
  image.set_grain(0, SeSparseImage::allocated(3));
  image.set_grain(1, SeSparseImage::allocated(4));
  image.set_grain(2, SeSparseImage::allocated(6));
  image.set_grain(3, SeSparseImage::zeroed());
  image.set_grain(4, SeSparseImage::unmapped(1));
  use(image);
  open(false);
  const auto extent_at = [this](uint64_t offset) {
    const auto extent = image_.run(image_.driver().map(offset, image_.edge().length() - offset));
    EXPECT_TRUE(extent);
    return extent.value_or(block::Extent{});
  };
  EXPECT_EQ(extent_at(100).length, 2 * kSe - 100);
  EXPECT_EQ(extent_at(100).host_offset, image.host(3) + 100);
  EXPECT_EQ(extent_at(2 * kSe).length, kSe);
  EXPECT_EQ(extent_at(2 * kSe).host_offset, image.host(6));
  EXPECT_EQ(extent_at(3 * kSe).length, 2 * kSe);
  EXPECT_EQ(extent_at(3 * kSe).kind, block::Extent::Kind::kZero);
  EXPECT_EQ(extent_at(5 * kSe).length, kSectors * kSector - 5 * kSe);
  EXPECT_EQ(extent_at(5 * kSe).kind, block::Extent::Kind::kHole);
}

// The lowest twelve bits of a grain's number are above the others.
TEST_F(SeSparseTest, GrainsFarAwayAreFound) {
  for (const uint64_t number : {uint64_t{0xfff}, uint64_t{0x1000}, uint64_t{0x1234567}}) {
    SeSparseImage image(kSectors);
    image.set_grain(7, SeSparseImage::allocated(number));
    use(image);
    testing::SparseBytes content = image_.file("e.vmdk").disk.visible();
    content.write(image.host(number), std::vector<std::byte>(kSe, std::byte{9}));
    image_.world().remove("e.vmdk");
    image_.world().add("e.vmdk", content);
    open(false);
    EXPECT_EQ(byte_at(7 * kSe, kSe), 9) << number;
    EXPECT_EQ(complaint(), "");
    close();
  }
}

TEST_F(SeSparseTest, HolesReadFromTheParentAndZeroesDoNot) {
  ASSERT_TRUE(image_.create({{"size", "4194304"}}, "below.vmdk"));
  ASSERT_TRUE(image_.open(true, "below.vmdk"));
  const std::vector<char> sevens(8 * kSe, 7);
  ASSERT_TRUE(image_.run(image_.edge().write(0, sevens.data(), sevens.size())));
  const std::string id = fmt::format("{:08x}", image_.driver().content().id());
  close();
  SeSparseImage image(kSectors);
  image.set_grain(1, SeSparseImage::zeroed());
  image.set_grain(2, SeSparseImage::unmapped(0));
  image.set_grain(3, SeSparseImage::allocated(2));
  image.fill_grain(2, 5);
  use(image, "parentCID=" + id + "\nparentFileNameHint=\"below.vmdk\"\n");
  open(false);
  EXPECT_EQ(byte_at(0, kSe), 7);
  EXPECT_EQ(byte_at(kSe, 2 * kSe), 0);
  EXPECT_EQ(byte_at(3 * kSe, kSe), 5);
  EXPECT_EQ(byte_at(4 * kSe, kSe), 7);
}

TEST_F(SeSparseTest, ADiskMayConsistOfExtentsOfSeveralKinds) {
  SeSparseImage image(kSectors);
  image.set_grain(0, SeSparseImage::allocated(1));
  image.fill_grain(1, 3);
  use(image);
  add("flat.raw", std::vector<std::byte>(1000 * kSector, std::byte{8}));
  use_descriptor(descriptor("RW 1000 FLAT \"flat.raw\" 0\nRW 8192 SESPARSE \"e.vmdk\"\n"));
  open(false);
  EXPECT_EQ(image_.edge().length(), (1000 + kSectors) * kSector);
  EXPECT_EQ(byte_at(999 * kSector, kSector), 8);
  EXPECT_EQ(byte_at(1000 * kSector, kSe), 3);
  EXPECT_EQ(byte_at(1000 * kSector + kSe, kSe), 0);
  const auto info = image_.run(image_.driver().specific_info());
  ASSERT_TRUE(info);
  const auto& told = std::get<schema::ImageInfoSpecificVmdkWrapper>((*info)->branch).data;
  EXPECT_EQ(told.create_type, "seSparse");
  ASSERT_EQ(told.extents.size(), 2u);
  EXPECT_EQ(told.extents[1].format, "SESPARSE");
  EXPECT_EQ(told.extents[1].cluster_size, 4096);
}

TEST_F(SeSparseTest, IsOnlyRead) {
  SeSparseImage image(kSectors);
  use(image);
  const auto opened = image_.open(true);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().message(), "No write support for seSparse images available");
  EXPECT_EQ(opened.error().code(), EACCES);
  auto node =
      image_.run(image_.graph().open_filename("image.vmdk", "vmdk", {.auto_read_only = true}));
  ASSERT_TRUE(node) << node.error().message();
  EXPECT_TRUE((*node)->read_only());
  EXPECT_TRUE(image_.run(image_.graph().release(std::move(*node))));
}

TEST_F(SeSparseTest, WhatIsWrongIsSaid) {
  EXPECT_EQ(refusal(0, 0x564d444b), "Bad const header magic: 0x00000000564d444b");
  EXPECT_EQ(refusal(8, 0x200000002), "Unsupported version: 0x0000000200000002");
  EXPECT_EQ(refusal(24, 16), "Unsupported grain size: 16");
  EXPECT_EQ(refusal(32, 128), "Unsupported grain table size: 128");
  EXPECT_EQ(refusal(40, 1), "Unsupported flags: 0x0000000000000001");
  EXPECT_EQ(refusal(72, 0x10),
            "Unsupported reserved bits: 0x0000000000000000 0x0000000000000000 "
            "0x0000000000000000 0x0000000000000010");
  EXPECT_EQ(refusal(504, 1), "Unsupported non-zero const header padding");
  EXPECT_EQ(refusal(80, 2), "Bad volatile header magic: 0x1000000000000000");
  EXPECT_EQ(refusal(80, 1 << 30), "Bad volatile header magic: 0x0000000000000000");
  EXPECT_EQ(refusal(80, UINT64_MAX),
            "Could not read volatile header from file 'e.vmdk': Input/output error");
  EXPECT_EQ(refusal(kSector + 24, 1), "Image is dirty, Replaying journal not supported");
  EXPECT_EQ(refusal(kSector + 32, 1), "Unsupported non-zero volatile header padding");
  EXPECT_EQ(refusal(128, UINT64_MAX),
            "Could not read l1 table from extent 'e.vmdk': Input/output error");
  EXPECT_EQ(refusal(136, (32u << 20) / 64 + 1), "L1 size too big");
  EXPECT_EQ(refusal(16, UINT64_MAX), "Could not refresh total sector count: File too large");
  EXPECT_EQ(refusal(16, uint64_t{1} << 50), "");
}

TEST_F(SeSparseTest, AnyNumberInAnyFieldIsLivedWith) {
  constexpr std::array<uint64_t, 12> kNumbers = {0,
                                                 1,
                                                 2,
                                                 7,
                                                 513,
                                                 0xffffffff,
                                                 uint64_t{1} << 32,
                                                 uint64_t{1} << 52,
                                                 uint64_t{1} << 54,
                                                 uint64_t{1} << 60,
                                                 (uint64_t{1} << 63) - 1,
                                                 UINT64_MAX};
  std::vector<uint64_t> fields = {SeSparseImage::kDirectoryAt * kSector,
                                  SeSparseImage::kTablesAt * kSector, kSector + 8};
  for (uint64_t offset = 0; offset < 216; offset += 8) {
    fields.push_back(offset);
  }
  uint64_t opened = 0;
  for (const uint64_t field : fields) {
    for (const uint64_t number : kNumbers) {
      for (const uint64_t kind : {0, 1, 3}) {
        SCOPED_TRACE(fmt::format("{:#x} at {}, kind {}", number, field, kind));
        SeSparseImage image(kSectors);
        image.set_grain(0, SeSparseImage::allocated(1));
        image.put(field, number | kind << 60);
        use(image);
        if (!image_.open(false)) {
          continue;
        }
        ++opened;
        const uint64_t length = image_.edge().length();
        for (const uint64_t at : {uint64_t{0}, kSe, length - std::min(length, kSe)}) {
          if (at + kSe <= length) {
            const int byte = byte_at(at, kSe);
            EXPECT_TRUE(byte >= 0 || byte == -EIO) << byte;
            const auto status = image_.run(image_.edge().status(at, kSe));
            EXPECT_TRUE(status || status.error().code() == EIO);
          }
        }
        EXPECT_TRUE(image_.run(image_.driver().specific_info()));
        close();
      }
    }
  }
  EXPECT_GT(opened, 200u);
}

TEST_F(SeSparseTest, DamagedEntriesFailToBeReadAndOnlyThose) {
  for (const uint64_t entry :
       {uint64_t{1}, uint64_t{0x0fff} << 48, uint64_t{4} << 60, uint64_t{15} << 60,
        (uint64_t{3} << 60) | ((uint64_t{1} << 48) - 1)}) {
    SCOPED_TRACE(entry);
    SeSparseImage image(kSectors);
    image.set_grain(0, SeSparseImage::allocated(0));
    image.set_grain(1, entry);
    image.set_grain(2, SeSparseImage::allocated(1));
    image.fill_grain(0, 1);
    image.fill_grain(1, 2);
    use(image);
    open(false);
    EXPECT_EQ(byte_at(0, kSe), 1);
    EXPECT_EQ(byte_at(kSe, kSe), -EIO);
    EXPECT_EQ(byte_at(2 * kSe, kSe), 2);
    EXPECT_EQ(complaint(), "ERROR: could not get cluster_offset for sector 8");
    close();
  }
  for (const uint64_t entry : {uint64_t{1}, (uint64_t{1} << 60) | (uint64_t{1} << 32),
                               uint64_t{2} << 60, uint64_t{0x11} << 56}) {
    SCOPED_TRACE(entry);
    SeSparseImage image(2 * SeSparseImage::kTableSpan / kSector);
    image.set_table(0, entry);
    image.set_grain(4096, SeSparseImage::allocated(1));
    image.fill_grain(1, 2);
    use(image);
    open(false);
    EXPECT_EQ(byte_at(0, kSe), -EIO);
    EXPECT_EQ(byte_at(SeSparseImage::kTableSpan, kSe), 2);
    EXPECT_EQ(complaint(), "ERROR: could not get cluster_offset for sector 0");
    close();
  }
}

TEST_F(SeSparseTest, WhatAFileIsTooShortForReadsAsNothing) {
  SeSparseImage image(kSectors);
  image.set_grain(0, SeSparseImage::allocated(1));
  image.set_grain(1, SeSparseImage::allocated(40));
  use(image);
  open(false);
  EXPECT_EQ(complaint(), "ERROR: cluster offset for sector 8 points after EOF");
  close();
  for (const uint64_t length : {2 * kSector, SeSparseImage::kDirectoryAt * kSector + 3,
                                SeSparseImage::kTablesAt * kSector + 4}) {
    SeSparseImage cut(kSectors);
    cut.set_grain(0, SeSparseImage::allocated(16));  // all of it in the upper half
    cut.bytes().resize(length);
    use(cut);
    open(false);
    EXPECT_EQ(byte_at(0, 2 * kSe), 0);
    close();
  }
}

TEST_F(SeSparseTest, TheCacheOfTablesIsBounded) {
  constexpr uint64_t kTables = 300;
  SeSparseImage image(kTables * SeSparseImage::kTableSpan / kSector);
  for (uint64_t i = 0; i < kTables; ++i) {
    image.set_grain(i * 4096 + i, SeSparseImage::allocated(i % 16));
  }
  for (uint64_t i = 0; i < 16; ++i) {
    image.fill_grain(i, static_cast<int>(i + 1));
  }
  use(image);
  open(false);
  for (int round = 0; round < 2; ++round) {
    const uint64_t before = image_.world().submitted(testing::IoKind::kRead);
    for (uint64_t i = 0; i < kTables; ++i) {
      ASSERT_EQ(byte_at(i * SeSparseImage::kTableSpan + i * kSe, kSe),
                static_cast<int>(i % 16 + 1));
      ASSERT_EQ(byte_at(i * SeSparseImage::kTableSpan + i * kSe, 512),
                static_cast<int>(i % 16 + 1));
    }
    const uint64_t reads = image_.world().submitted(testing::IoKind::kRead) - before;
    EXPECT_EQ(reads, 3 * kTables) << "each table is read once, and by then the first has gone";
  }
}

TEST_F(SeSparseTest, ATableThatFailedToBeReadIsReadAgain) {
  SeSparseImage image(kSectors);
  image.set_grain(0, SeSparseImage::allocated(1));
  image.fill_grain(1, 6);
  use(image);
  open(false);
  image_.world().add_fault({.kind = testing::IoKind::kRead, .file = "e.vmdk"});
  EXPECT_EQ(byte_at(0, kSe), -EIO);
  EXPECT_EQ(byte_at(0, kSe), 6);
}

}  // namespace
}  // namespace cairn::vmdk
