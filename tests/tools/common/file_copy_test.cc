// Copying and comparing the files of images beside their nodes.
#include "tools/common/file_copy.h"

#include <sys/stat.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "formats/raw/raw.h"
#include "protocols/file/file.h"
#include "tests/support/graph_test.h"
#include "tools/common/host_compare.h"
#include "tools/common/thread_copy.h"

namespace cairn::tools {
namespace {

constexpr uint64_t kPiece = 64u << 10;

class FileCopyTest : public cairn::testing::GraphTest {
 protected:
  FileCopyTest() : GraphTest({&file::kFileDriver, &raw::kRawDriver}) {}

  // A raw image that begins at `begin` in its file, and what it holds, in pieces of 64 KiB: '0' are
  // zeroes.
  block::Edge* make_image(std::string_view name, const std::string& text, uint64_t begin = 0) {
    std::string bytes(begin, 'h');
    for (const char piece : text) {
      bytes += std::string(kPiece, piece == '0' ? '\0' : piece);
    }
    make_file(name, 0);
    std::ofstream(path(name), std::ios::binary) << bytes;
    return open_image(name, begin);
  }
  block::Edge* open_image(std::string_view name, uint64_t begin = 0) {
    schema::BlockdevOptionsRaw raw;
    raw.file.value = schema::Box<schema::BlockdevOptions>(cairn::testing::file_options(path(name)));
    if (begin != 0) {
      raw.offset = begin;
    }
    schema::BlockdevOptions options;
    options.driver = schema::BlockdevDriver::kRaw;
    options.branch = std::move(raw);
    return open(options, kReadWrite);
  }
  // The node that the image's bytes lie in.
  static const block::Node& file_of(const block::Edge& image) {
    return image.node().child("file")->node();
  }
  [[nodiscard]] uint64_t allocated(std::string_view name) const {
    struct stat found{};
    EXPECT_EQ(stat(path(name).c_str(), &found), 0);
    return static_cast<uint64_t>(found.st_blocks) * 512;
  }
};

TEST_F(FileCopyTest, ThreadsCopyDataAndLeaveZeroesOut) {
  block::Edge* source = make_image("s", "ab0c", 4096);
  make_file("t", 4 * kPiece);
  block::Edge* target = open_image("t");
  auto copy = run(ThreadCopy::create(*target, ThreadCopy::kMostSparse));
  ASSERT_NE(copy, nullptr);
  copy->add_source(source->node());
  EXPECT_TRUE(run(copy->copy(file_of(*source), 4096, 0, 4 * kPiece)));
  EXPECT_TRUE(run(copy->flush()));
  EXPECT_EQ(content("t"), content("s").substr(4096));
  EXPECT_EQ(allocated("t"), 3 * kPiece);
}

TEST_F(FileCopyTest, ThreadsWriteZeroesWhereAllIsToBeAllocated) {
  block::Edge* source = make_image("s", "a00c");
  make_file("t", 4 * kPiece);
  block::Edge* target = open_image("t");
  auto copy = run(ThreadCopy::create(*target, 0));
  ASSERT_NE(copy, nullptr);
  copy->add_source(source->node());
  EXPECT_TRUE(run(copy->copy(file_of(*source), 0, 0, 4 * kPiece)));
  EXPECT_EQ(content("t"), content("s"));
  EXPECT_EQ(allocated("t"), 4 * kPiece);
}

TEST_F(FileCopyTest, TheTargetMayBeAPartOfItsFile) {
  block::Edge* source = make_image("s", "ab");
  block::Edge* target = make_image("t", "000", 1u << 20);
  auto copy = run(ThreadCopy::create(*target, ThreadCopy::kMostSparse));
  ASSERT_NE(copy, nullptr);
  copy->add_source(source->node());
  EXPECT_TRUE(run(copy->copy(file_of(*source), 0, kPiece, 2 * kPiece)));
  EXPECT_EQ(content("t"), std::string(1u << 20, 'h') + std::string(kPiece, '\0') + content("s"));
}

TEST_F(FileCopyTest, WhatCanNotBeReadIsForOthersToReport) {
  block::Edge* source = make_image("s", "a");
  make_file("t", 2 * kPiece);
  block::Edge* target = open_image("t");
  auto copy = run(ThreadCopy::create(*target, ThreadCopy::kMostSparse));
  ASSERT_NE(copy, nullptr);
  EXPECT_FALSE(run(copy->copy(file_of(*source), 0, 0, kPiece))) << "not a source";
  copy->add_source(source->node());
  EXPECT_FALSE(run(copy->copy(file_of(*source), 0, 0, 2 * kPiece))) << "beyond the end";
  EXPECT_FALSE(run(copy->copy(source->node(), 0, 0, kPiece))) << "not a file";
}

TEST_F(FileCopyTest, ImagesThatAreNotRawInAFileAreNoTargets) {
  block::Edge* file = open(cairn::testing::file_options(make_file("t", kPiece)), kReadWrite);
  EXPECT_EQ(run(ThreadCopy::create(*file, 0)), nullptr);
  make_file("empty", 0);
  EXPECT_EQ(run(ThreadCopy::create(*open_image("empty"), 0)), nullptr);
}

TEST_F(FileCopyTest, EqualBytesAreCountedOnThreads) {
  block::Edge* a = make_image("a", "abcd");
  block::Edge* b = make_image("b", "zbcx", 512);
  HostCompare compare;
  compare.add(a->node());
  const jobs::StoredAt in_a{.node = &file_of(*a), .offset = kPiece};
  const jobs::StoredAt in_b{.node = &file_of(*b), .offset = 512 + kPiece};
  EXPECT_EQ(run(compare.equal_bytes(in_a, in_b, kPiece)), std::nullopt) << "b is not known";
  compare.add(b->node());
  EXPECT_EQ(run(compare.equal_bytes(in_a, in_b, 2 * kPiece)), 2 * kPiece);
  EXPECT_EQ(run(compare.equal_bytes(in_a, in_b, 3 * kPiece)), 2 * kPiece);
  EXPECT_EQ(run(compare.equal_bytes(in_a, in_b, 4 * kPiece)), 2 * kPiece) << "before the end of a";
}

}  // namespace
}  // namespace cairn::tools
