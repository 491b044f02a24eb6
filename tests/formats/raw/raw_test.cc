// Raw nodes: windows, resizing, and images whose format was guessed.
#include "formats/raw/raw.h"

#include "protocols/file/file.h"
#include "tests/support/graph_test.h"

namespace cairn::raw {
namespace {

io::Task<Result<std::unique_ptr<block::Driver>>> no_open(block::OpenContext&,
                                                         const schema::BlockdevOptions&) {
  co_return fail(ENOTSUP, "only for probing");
}

int probe_magic(std::span<const std::byte> head, std::string_view) {
  return head.size() >= 4 && head[0] == std::byte{'Q'} && head[1] == std::byte{'F'} ? 100 : 0;
}

// A format that is recognised by its first bytes.
const block::DriverInfo kMagicDriver = {.name = "magic", .open = no_open, .probe = probe_magic};

class RawTest : public testing::GraphTest {
 protected:
  RawTest() : GraphTest({&file::kFileDriver, &kRawDriver, &kMagicDriver}) {}

  void SetUp() override {
    GraphTest::SetUp();
    std::string text;
    for (char c = 'a'; c < 'i'; ++c) {
      text += std::string(512, c);
    }
    std::ofstream(path("a")) << text;  // 4096 bytes
  }

  [[nodiscard]] schema::BlockdevOptions window(std::optional<int64_t> offset,
                                               std::optional<int64_t> size) const {
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kRaw;
    schema::BlockdevOptionsRaw raw;
    auto file = testing::file_options(path("a"));
    file.discard = schema::BlockdevDiscardOptions::kUnmap;
    raw.file.value = schema::Box<schema::BlockdevOptions>(file);
    raw.offset = offset;
    raw.size = size;
    options.branch = std::move(raw);
    options.discard = schema::BlockdevDiscardOptions::kUnmap;
    return options;
  }
  std::string refusal(std::optional<int64_t> offset, std::optional<int64_t> size) {
    return open(window(offset, size), kRead) != nullptr ? "" : error_;
  }
};

TEST_F(RawTest, ShowsTheWholeFileByDefault) {
  block::Edge* edge = open(window({}, {}), kReadWrite);
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_EQ(edge->length(), 4096u);
  EXPECT_EQ(read(*edge, 511, 2), "ab");
}

TEST_F(RawTest, AWindowShowsItsPartOnly) {
  block::Edge* edge = open(window(1024, 1024), kReadWrite);
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_EQ(edge->length(), 1024u);
  EXPECT_EQ(read(*edge, 0, 1024), std::string(512, 'c') + std::string(512, 'd'));
  ASSERT_TRUE(write(*edge, 1020, "WXYZ"));
  EXPECT_EQ(content("a").substr(2043, 6), "dWXYZe");
  EXPECT_FALSE(write(*edge, 1021, "WXYZ"));
}

// Zeroes between two characters.
std::string enclosed(char before, std::size_t zeroes, char after) {
  std::string text(zeroes + 2, '\0');
  text.front() = before;
  text.back() = after;
  return text;
}

TEST_F(RawTest, ZeroesAndDiscardsAreShifted) {
  block::Edge* edge = open(window(1024, 1024), kReadWrite);
  ASSERT_NE(edge, nullptr) << error_;
  ASSERT_TRUE(run(edge->write_zeroes(100, 100)));
  EXPECT_EQ(content("a").substr(1123, 102), enclosed('c', 100, 'c'));
  ASSERT_TRUE(run(edge->discard(0, 1024)));
  EXPECT_EQ(content("a").substr(1023, 1026), enclosed('b', 1024, 'e'));
}

TEST_F(RawTest, TheWindowHasToLieInTheFile) {
  EXPECT_EQ(refusal(4096, {}), "");
  EXPECT_EQ(refusal(4097, {}),
            "Offset (4097) cannot be greater than size of the containing file (4096)");
  EXPECT_EQ(refusal(1024, 3584),
            "The sum of offset (1024) and size (3584) has to be smaller or equal to the  actual "
            "size of the containing file (4096)");
  EXPECT_EQ(refusal(512, INT64_MAX),
            "The sum of offset (512) and size (9223372036854775807) has to be smaller or equal to "
            "the  actual size of the containing file (4096)");
  EXPECT_EQ(refusal({}, 100), "Specified size is not multiple of 512");
  EXPECT_NE(refusal(-1, {}), "");
  EXPECT_NE(refusal({}, -512), "");
}

TEST_F(RawTest, ResizesTheFileUnlessTheSizeIsFixed) {
  block::Edge* edge = open(window(1024, {}), kAll);
  ASSERT_NE(edge, nullptr) << error_;
  ASSERT_TRUE(run(edge->resize(8192)));
  EXPECT_EQ(edge->length(), 8192u);
  EXPECT_EQ(std::filesystem::file_size(path("a")), 9216u);
  detach(edge);
  edge = open(window(0, 1024), kAll);
  ASSERT_NE(edge, nullptr) << error_;
  const auto refused = run(edge->resize(2048));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "Cannot resize fixed-size raw disks");
}

TEST_F(RawTest, StatusIsThatOfTheFile) {
  make_file("a", 1 << 20);
  block::Edge* edge = open(window(65536, {}), kReadWrite);
  ASSERT_NE(edge, nullptr) << error_;
  ASSERT_TRUE(write(*edge, 65536, std::string(65536, 'x')));
  const auto hole = run(edge->status(0, 1 << 20));
  ASSERT_TRUE(hole);
  EXPECT_TRUE(hole->zero);
  EXPECT_EQ(hole->length, 65536u);
  const auto data = run(edge->status(65536, 1 << 20));
  ASSERT_TRUE(data);
  EXPECT_TRUE(data->data);
  EXPECT_EQ(data->host_offset, 131072u);
}

TEST_F(RawTest, AWindowFromWithinASectorReadsAsZeroesBehindTheFile) {
  make_file("a", 4096);
  block::Edge* edge = open(window(1, {}), kReadWrite);
  ASSERT_NE(edge, nullptr) << error_;
  ASSERT_EQ(edge->length(), 4096u);
  ASSERT_TRUE(write(*edge, 0, std::string(4095, 'x')));
  const auto data = run(edge->status(0, 4096));
  ASSERT_TRUE(data);
  EXPECT_TRUE(data->data);
  EXPECT_EQ(data->length, 4095u);
  const auto behind = run(edge->status(4095, 1));
  ASSERT_TRUE(behind);
  EXPECT_TRUE(behind->zero);
  EXPECT_FALSE(behind->data);
  EXPECT_EQ(read(*edge, 4094, 2), std::string("x\0", 2));
}

TEST_F(RawTest, AProbedImageTakesNoHeaderOfAnotherFormat) {
  block::Edge* edge = open(window({}, {}), kReadWrite, {.probed = true});
  ASSERT_NE(edge, nullptr) << error_;
  const auto refused = write(*edge, 0, "QF");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), EPERM);
  // Neither in two steps.
  ASSERT_TRUE(write(*edge, 1, "F"));
  EXPECT_FALSE(write(*edge, 0, "Q"));
  EXPECT_EQ(read(*edge, 0, 3), "aFa");
  EXPECT_TRUE(write(*edge, 512, "QF"));
  EXPECT_TRUE(run(edge->write_zeroes(0, 4096)));
}

TEST_F(RawTest, ANamedRawImageTakesAnything) {
  block::Edge* edge = open(window({}, {}), kReadWrite);
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_TRUE(write(*edge, 0, "QFI"));
}

}  // namespace
}  // namespace cairn::raw
