// Tests of tools/common/process.h: files with process ids. (Going to the background is tested from
// outside, in tests/e2e.)
#include "tools/common/process.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

namespace cairn::tools {
namespace {

std::string content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(PidFile, HoldsTheNumberAndGoesWithTheProgram) {
  const std::string path = testing::TempDir() + "cairn-test.pid";
  std::ofstream(path) << "a longer text from before\n";
  {
    const auto file = PidFile::create(path);
    ASSERT_TRUE(file) << file.error().message();
    EXPECT_EQ(content(path), std::to_string(getpid()) + "\n");
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(PidFile, StaysWhenItIsToBeKept) {
  const std::string path = testing::TempDir() + "cairn-kept.pid";
  {
    ASSERT_TRUE(PidFile::create(path, PidFile::AtEnd::kKeep));
  }
  EXPECT_EQ(content(path), std::to_string(getpid()) + "\n");
  std::filesystem::remove(path);
}

TEST(PidFile, NamesTheFileThatCanNotBeMade) {
  EXPECT_EQ(PidFile::create("/nonexistent/pid").error().message(),
            "Could not create '/nonexistent/pid': No such file or directory");
}

}  // namespace
}  // namespace cairn::tools
