// Reading, writing, zeroing and sizes of file nodes.
#include "protocols/file/file.h"

#include <sys/stat.h>

#include "tests/support/graph_test.h"

namespace cairn::file {
namespace {

class FileTest : public testing::GraphTest {
 protected:
  FileTest() : GraphTest({&kFileDriver, &kHostDeviceDriver}) {}

  [[nodiscard]] uint64_t allocated(const char* name) const {
    struct stat status = {};
    stat(path(name).c_str(), &status);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }
  block::Edge* open_file(const char* name, block::Permissions permissions = kAll) {
    auto options = testing::file_options(path(name));
    options.discard = schema::BlockdevDiscardOptions::kUnmap;
    return open(options, permissions);
  }
};

TEST_F(FileTest, ReadsAndWritesAtAnyOffset) {
  make_file("a", 10000, 'x');
  block::Edge* edge = open_file("a");
  ASSERT_NE(edge, nullptr) << error_;
  ASSERT_TRUE(write(*edge, 4095, "hello"));
  EXPECT_EQ(read(*edge, 4094, 7), "xhellox");
  EXPECT_EQ(content("a").substr(4094, 7), "xhellox");
}

TEST_F(FileTest, TheLastSectorIsFilledUpWithZeroes) {
  make_file("a", 1000, 'x');
  block::Edge* edge = open_file("a", kRead);
  ASSERT_NE(edge, nullptr) << error_;
  EXPECT_EQ(edge->length(), 1024u);
  EXPECT_EQ(read(*edge, 998, 26), "xx" + std::string(24, '\0'));
}

TEST_F(FileTest, AFileThatBecameShorterReadsAsZeroes) {
  make_file("a", 8192, 'x');
  block::Edge* edge = open_file("a", kRead);
  ASSERT_NE(edge, nullptr) << error_;
  std::filesystem::resize_file(path("a"), 100);
  EXPECT_EQ(read(*edge, 4096, 4), std::string(4, '\0'));
}

TEST_F(FileTest, AWriteBehindTheEndMakesTheFileLonger) {
  make_file("a", 0);
  block::Edge* edge = open_file("a");
  ASSERT_NE(edge, nullptr) << error_;
  // As a format's edge does; a user of the whole file may not write beyond its end.
  const std::string end = "end";
  block::RequestDriver& driver = *edge->node().driver().as_request();
  ASSERT_TRUE(
      run(driver.write(100000, io::IoVector::of_const(end.data(), end.size()), {.fua = true})));
  EXPECT_EQ(edge->length(), 100352u);  // whole sectors
  EXPECT_EQ(std::filesystem::file_size(path("a")), 100003u);
}

TEST_F(FileTest, ZeroesKeepTheirSpaceUnlessItMayBeUnmapped) {
  make_file("a", 1 << 20, 'x');
  block::Edge* edge = open_file("a");
  ASSERT_NE(edge, nullptr) << error_;
  ASSERT_TRUE(run(edge->write_zeroes(4096, 65536)));
  EXPECT_EQ(read(*edge, 4096, 65536), std::string(65536, '\0'));
  EXPECT_EQ(read(*edge, 0, 4096), std::string(4096, 'x'));
  EXPECT_GE(allocated("a"), 1u << 20);
  ASSERT_TRUE(run(edge->write_zeroes(0, 1 << 20, {.may_unmap = true})));
  EXPECT_EQ(allocated("a"), 0u);
}

TEST_F(FileTest, ZeroesBehindTheEndMakeTheFileLonger) {
  for (const bool unmap : {false, true}) {
    make_file("a", 1000, 'x');
    block::Edge* edge = open_file("a");
    ASSERT_NE(edge, nullptr) << error_;
    block::RequestDriver& driver = *edge->node().driver().as_request();
    ASSERT_TRUE(run(driver.write_zeroes(512, 99488, {.may_unmap = unmap})));
    EXPECT_EQ(std::filesystem::file_size(path("a")), 100000u);
    EXPECT_EQ(read(*edge, 500, 1000), std::string(12, 'x') + std::string(988, '\0'));
    detach(edge);
  }
}

TEST_F(FileTest, DiscardPunchesHolesAndKeepsTheSize) {
  make_file("a", 1 << 20, 'x');
  block::Edge* edge = open_file("a");
  ASSERT_NE(edge, nullptr) << error_;
  ASSERT_TRUE(run(edge->discard(0, 1 << 20)));
  EXPECT_EQ(std::filesystem::file_size(path("a")), 1u << 20);
  EXPECT_EQ(allocated("a"), 0u);
}

TEST_F(FileTest, StatusTellsDataFromHoles) {
  make_file("a", 1 << 20);
  block::Edge* edge = open_file("a");
  ASSERT_NE(edge, nullptr) << error_;
  ASSERT_TRUE(write(*edge, 65536, std::string(65536, 'x')));
  const auto hole = run(edge->status(0, 1 << 20));
  ASSERT_TRUE(hole);
  EXPECT_TRUE(hole->zero && !hole->data && hole->allocated);
  EXPECT_EQ(hole->length, 65536u);
  const auto data = run(edge->status(65536 + 512, 1 << 20));
  ASSERT_TRUE(data);
  EXPECT_TRUE(data->data && !data->zero);
  EXPECT_EQ(data->length, 65024u);
  EXPECT_EQ(data->host_offset, 66048u);
  const auto rest = run(edge->status(131072, 1 << 20));
  ASSERT_TRUE(rest);
  EXPECT_TRUE(rest->zero);
  EXPECT_EQ(rest->length, (1u << 20) - 131072);
}

TEST_F(FileTest, AWriteIntoARememberedHoleIsSeenByStatus) {
  make_file("a", 1 << 20);
  // Nobody else may write, so that holes are remembered.
  block::Permissions exclusive = kAll;
  exclusive.shared = block::PermissionSet::kConsistentRead;
  block::Edge* edge = open_file("a", exclusive);
  ASSERT_NE(edge, nullptr) << error_;
  ASSERT_TRUE(run(edge->status(0, 1 << 20))->zero);
  ASSERT_TRUE(write(*edge, 524288, std::string(4096, 'x')));
  EXPECT_EQ(run(edge->status(0, 1 << 20))->length, 524288u);
  EXPECT_TRUE(run(edge->status(524288, 4096))->data);
  ASSERT_TRUE(run(edge->discard(524288, 4096)));
  EXPECT_EQ(run(edge->status(0, 1 << 20))->length, 1u << 20);
}

TEST_F(FileTest, ResizeGrowsAndShrinksAndPreallocates) {
  make_file("a", 65536, 'x');
  block::Edge* edge = open_file("a");
  ASSERT_NE(edge, nullptr) << error_;
  ASSERT_TRUE(run(edge->resize(1 << 20)));
  EXPECT_EQ(std::filesystem::file_size(path("a")), 1u << 20);
  ASSERT_TRUE(run(edge->resize(512)));
  EXPECT_EQ(content("a"), std::string(512, 'x'));
  ASSERT_TRUE(run(edge->resize(1 << 20, {.preallocation = block::Preallocation::kFull})));
  EXPECT_GE(allocated("a"), 1u << 20);
  EXPECT_EQ(content("a").substr(0, 600), std::string(512, 'x') + std::string(88, '\0'));
  const auto refused =
      run(edge->resize(2 << 20, {.preallocation = block::Preallocation::kMetadata}));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "Unsupported preallocation mode: metadata");
  const auto shrink = run(edge->resize(4096, {.preallocation = block::Preallocation::kFalloc}));
  EXPECT_FALSE(shrink);
  EXPECT_EQ(std::filesystem::file_size(path("a")), 1u << 20);
}

TEST_F(FileTest, DirectAccessIsBouncedToTheAlignmentOfTheFile) {
  make_file("a", 70000, 'x');
  auto options = testing::file_options(path("a"));
  options.cache = schema::BlockdevCacheOptions{};
  options.cache->direct = true;
  block::Edge* edge = open(options, kAll);
  if (edge == nullptr) {
    GTEST_SKIP() << "no direct I/O here: " << error_;
  }
  const std::string written(5000, 'y');
  ASSERT_TRUE(write(*edge, 4001, written));
  std::string expected = written;
  expected.insert(expected.begin(), 'x');
  expected.push_back('x');
  EXPECT_EQ(read(*edge, 4000, 5002), expected);
  ASSERT_TRUE(run(edge->flush()));
}

TEST_F(FileTest, SpecialFilesAndMissingOnesAreRefusedByName) {
  make_file("a", 512);
  std::filesystem::create_directory(path("d"));
  ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
  std::filesystem::create_symlink("a", path("link"));
  const auto message = [this](const std::string& name, schema::BlockdevDriver driver) {
    auto options = testing::file_options(name);
    options.driver = driver;
    return open(options, kRead) != nullptr ? "" : error_;
  };
  using schema::BlockdevDriver;
  const auto file = [&](const char* name) { return message(path(name), BlockdevDriver::kFile); };
  EXPECT_EQ(file("none"), "Could not open '" + path("none") + "': No such file or directory");
  EXPECT_EQ(file("a/x"), "Could not open '" + path("a/x") + "': Not a directory");
  EXPECT_EQ(file("d"), "Could not open '" + path("d") + "': Is a directory");
  EXPECT_EQ(file("fifo"), "'file' driver requires '" + path("fifo") + "' to be a regular file");
  EXPECT_EQ(file("link"), "");
  EXPECT_EQ(message("", BlockdevDriver::kFile), "The 'file' block driver requires a file name");
  EXPECT_EQ(
      message(path("a"), BlockdevDriver::kHostDevice),
      "'host_device' driver requires '" + path("a") + "' to be either a character or block device");
}

TEST_F(FileTest, NativeAioInsistsOnDirectAccess) {
  make_file("a", 512);
  auto options = testing::file_options(path("a"));
  std::get<schema::BlockdevOptionsFile>(options.branch).aio = schema::BlockdevAioOptions::kNative;
  EXPECT_EQ(open(options, kRead), nullptr);
  EXPECT_EQ(error_,
            "aio=native was specified, but it requires cache.direct=on, which was not specified.");
}

}  // namespace
}  // namespace cairn::file
