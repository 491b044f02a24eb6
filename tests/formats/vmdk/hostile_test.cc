// Headers, directories and tables of any content: an image opens or is refused with an error, and
// reads, writes and checks end, with an errno or without, and never hit the image's own metadata.
#include <array>

#include "base/bytes.h"
#include "schema/types_block_info.h"
#include "tests/formats/vmdk/vmdk_test.h"

namespace cairn::vmdk {
namespace {

constexpr uint64_t kHostileDisk = 4 << 20;
// Where the entry of the first grain is.
constexpr uint64_t kFirstEntry = 0x3600;

struct Field {
  const char* name;
  uint64_t offset;
  std::size_t bytes;
};
constexpr std::array<Field, 14> kFields = {{{"version", 4, 4},
                                            {"flags", 8, 4},
                                            {"capacity", 12, 8},
                                            {"grain size", 20, 8},
                                            {"descriptor offset", 28, 8},
                                            {"descriptor size", 36, 8},
                                            {"table entries", 44, 4},
                                            {"redundant directory", 48, 8},
                                            {"directory", 56, 8},
                                            {"overhead", 64, 8},
                                            {"compression", 77, 2},
                                            {"directory entry", 0x3400, 4},
                                            {"redundant entry", 0x2a00, 4},
                                            {"table entry", kFirstEntry, 4}}};
constexpr std::array<uint64_t, 16> kValues = {
    0,   1,   2,   3,       7,          8,          22,         27,
    127, 512, 513, 0x30003, 1ull << 31, 0xffffffff, 1ull << 55, UINT64_MAX};

class VmdkHostile : public VmdkTest {
 protected:
  testing::SparseBytes sound(const char* subformat = "monolithicSparse") {
    start({{"size", std::to_string(kHostileDisk)}, {"subformat", subformat}});
    EXPECT_TRUE(image_.write(1, 0, 2 * kGrain));
    close();
    return image_.file().disk.visible();
  }
  static void put(testing::SparseBytes& bytes, uint64_t offset, uint64_t value,
                  std::size_t length) {
    std::array<std::byte, 8> raw{};
    store_le<uint64_t>(raw.data(), value);
    bytes.write(offset, std::span(raw).first(length));
  }
  void use(const testing::SparseBytes& bytes) {
    image_.world().remove("image.vmdk");
    image_.world().add("image.vmdk", bytes);
  }
  // The message of a failed opening; empty when it opens.
  std::string refusal(bool writable = false) {
    const auto opened = image_.open(writable);
    if (!opened) {
      return opened.error().message();
    }
    static_cast<void>(image_.close());
    return {};
  }
  // Uses all that an image can do; the disk may be of any length.
  void play() {
    const uint64_t length = image_.edge().length();
    std::vector<std::byte> data(4096);
    for (const uint64_t at : {uint64_t{0}, kGrain, kHostileDisk / 2, length - data.size()}) {
      if (length < data.size() || at > length - data.size()) {
        continue;
      }
      const auto read = image_.run(image_.edge().read(at, data.data(), data.size()));
      EXPECT_TRUE(read || read.error().code() > 0);
      const auto status = image_.run(image_.edge().status(at, data.size()));
      EXPECT_TRUE(status || status.error().code() > 0);
      if (!image_.edge().node().read_only()) {
        const auto written = image_.write(5, at, data.size());
        EXPECT_TRUE(written || written.error().code() > 0);
        EXPECT_TRUE(!written || image_.holds(5, at, data.size()));
      }
    }
    EXPECT_TRUE(image_.run(image_.driver().specific_info()));
  }
};

TEST_F(VmdkHostile, AnyValueInAnyFieldIsLivedWith) {
  const testing::SparseBytes good = sound();
  const std::vector<std::byte> header = good.read(0, kSector);
  for (const Field& field : kFields) {
    for (const uint64_t value : kValues) {
      for (const bool writable : {false, true}) {
        SCOPED_TRACE(fmt::format("{} is {:#x}, {}", field.name, value, writable));
        testing::SparseBytes bytes = good;
        put(bytes, field.offset, value, field.bytes);
        use(bytes);
        const auto opened = image_.open(writable);
        if (!opened) {
          EXPECT_FALSE(opened.error().message().empty());
          continue;
        }
        play();
        static_cast<void>(image_.close());
        EXPECT_EQ(image_.file().disk.visible().read(0, kSector), bytes.read(0, kSector));
      }
    }
  }
}

TEST_F(VmdkHostile, GrainsInMetadataAreNotWrittenTo) {
  for (const uint32_t place : {0x2u, 0x14u, 0x15u, 0x16u, 0x1au, 0x1bu, 0x1eu}) {
    SCOPED_TRACE(place);
    testing::SparseBytes bytes = sound();
    put(bytes, kFirstEntry, place, 4);
    use(bytes);
    open();
    ASSERT_TRUE(image_.write(4, kGrain, 512));  // from now on writes may go in place
    const auto written = image_.write(5, 0, 512);
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code(), EIO);
    close();
  }
}

TEST_F(VmdkHostile, TablesThatOverlapTakeNoWrites) {
  testing::SparseBytes bytes = sound();
  put(bytes, 0x3400, 0x16, 4);
  use(bytes);
  EXPECT_TRUE(refusal(true).contains("overlap"));
  EXPECT_EQ(refusal(false), "");
}

TEST_F(VmdkHostile, WhatIsWrongIsSaid) {
  const testing::SparseBytes good = sound();
  const auto with = [&](uint64_t offset, uint64_t value, std::size_t length) {
    testing::SparseBytes bytes = good;
    put(bytes, offset, value, length);
    use(bytes);
    return refusal();
  };
  EXPECT_EQ(with(0, 0x584d444b, 4), "invalid VMDK image descriptor");
  EXPECT_EQ(with(4, 9, 4), "Unsupported VMDK version 9");
  EXPECT_EQ(with(12, 0, 8), "Unsupported image type 'monolithicSparse'");
  EXPECT_EQ(with(20, UINT64_MAX, 8), "Invalid granularity, image may be corrupt");
  EXPECT_EQ(with(44, 0, 4), "L1 entry size is invalid");
  EXPECT_EQ(with(44, 513, 4), "L2 table size too big");
  EXPECT_EQ(with(56, 0x0fffffffffffffff, 8),
            "Could not read l1 table from extent 'image.vmdk': Input/output error");
  EXPECT_EQ(with(28, 0, 8), "");
  testing::SparseBytes cut = good;
  cut.resize(100);
  use(cut);
  EXPECT_EQ(refusal(), "File truncated, expecting at least 65536 bytes");
}

TEST_F(VmdkHostile, DamagedStreamsAreReadWithAnError) {
  testing::SparseBytes good = sound("streamOptimized");
  for (const uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{UINT32_MAX}}) {
    testing::SparseBytes bytes = good;
    put(bytes, kGrain + 8, size, 4);
    use(bytes);
    open(false);
    play();
    close();
  }
  put(good, kGrain + 16, 0x5555555555, 8);
  use(good);
  open(false);
  EXPECT_FALSE(image_.holds(1, 0, 512));
}

}  // namespace
}  // namespace cairn::vmdk
