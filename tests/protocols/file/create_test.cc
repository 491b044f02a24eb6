// Creating image files.
#include "protocols/file/create.h"

#include <sys/stat.h>

#include "protocols/file/file.h"
#include "tests/support/graph_test.h"

namespace cairn::file {
namespace {

class CreateFileTest : public testing::GraphTest {
 protected:
  CreateFileTest() : GraphTest({&kFileDriver}) {}

  Result<void> create(const char* name, uint64_t size,
                      block::Preallocation mode = block::Preallocation::kOff) {
    CreateParameters parameters;
    parameters.path = path(name);
    parameters.size = size;
    parameters.preallocation = mode;
    return run(create_image_file(std::move(parameters)));
  }
  [[nodiscard]] uint64_t allocated(const char* name) const {
    struct stat status = {};
    stat(path(name).c_str(), &status);
    return static_cast<uint64_t>(status.st_blocks) * 512;
  }
};

TEST_F(CreateFileTest, MakesSparseFilesOfZeroes) {
  ASSERT_TRUE(create("a", 1 << 20));
  EXPECT_EQ(content("a"), std::string(1 << 20, '\0'));
  EXPECT_LT(allocated("a"), 1u << 20);
}

TEST_F(CreateFileTest, PreallocatesWithAndWithoutWriting) {
  ASSERT_TRUE(create("a", 1 << 20, block::Preallocation::kFalloc));
  EXPECT_GE(allocated("a"), 1u << 20);
  ASSERT_TRUE(create("b", 1 << 20, block::Preallocation::kFull));
  EXPECT_GE(allocated("b"), 1u << 20);
  EXPECT_EQ(content("b"), std::string(1 << 20, '\0'));
}

TEST_F(CreateFileTest, AnExistingFileLosesItsContent) {
  make_file("a", 100000, 'x');
  ASSERT_TRUE(create("a", 512));
  EXPECT_EQ(content("a"), std::string(512, '\0'));
}

TEST_F(CreateFileTest, AFileInUseKeepsItsContent) {
  make_file("a", 1000, 'x');
  const block::Permissions writer{
      block::PermissionSet::kConsistentRead | block::PermissionSet::kWrite,
      block::PermissionSet::kConsistentRead};
  ASSERT_NE(open(testing::file_options(path("a")), writer), nullptr) << error_;
  const auto refused = create("a", 512);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "Failed to get \"write\" lock");
  EXPECT_EQ(content("a"), std::string(1000, 'x'));
}

TEST_F(CreateFileTest, ACheckTellsTheSameAndChangesNothing) {
  EXPECT_TRUE(check_creation(path("a")));
  EXPECT_FALSE(std::filesystem::exists(path("a")));
  make_file("b", 1000, 'x');
  EXPECT_TRUE(check_creation(path("b")));
  EXPECT_EQ(content("b"), std::string(1000, 'x'));
  EXPECT_EQ(check_creation(path("no/where")).error().message(),
            "Could not create '" + path("no/where") + "': No such file or directory");
  const block::Permissions writer{
      block::PermissionSet::kConsistentRead | block::PermissionSet::kWrite,
      block::PermissionSet::kConsistentRead};
  ASSERT_NE(open(testing::file_options(path("b")), writer), nullptr) << error_;
  const auto refused = check_creation(path("b"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "Failed to get \"write\" lock");
}

TEST_F(CreateFileTest, AFailureRemovesTheNewFileOnly) {
  const auto refused = create("a", 512, block::Preallocation::kMetadata);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message(), "Unsupported preallocation mode: metadata");
  EXPECT_FALSE(std::filesystem::exists(path("a")));
  make_file("b", 10, 'x');
  EXPECT_FALSE(create("b", 512, block::Preallocation::kMetadata));
  EXPECT_TRUE(std::filesystem::exists(path("b")));
}

TEST_F(CreateFileTest, SaysWhatCouldNotBeCreated) {
  EXPECT_EQ(create("no/where", 512).error().message(),
            "Could not create '" + path("no/where") + "': No such file or directory");
}

}  // namespace
}  // namespace cairn::file
