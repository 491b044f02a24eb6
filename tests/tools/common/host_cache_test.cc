// Tests of tools/common/host_cache.h: which limits of memory are found. What is left in the cache
// is seen from outside, in tests/e2e/test_convert.py.
#include "tools/common/host_cache.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

namespace cairn::tools {
namespace {

namespace fs = std::filesystem;

class MemoryLimit : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "cairn-groups-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }

  void put(const std::string& file, const std::string& text) const {
    const fs::path path = fs::path(root_) / file;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text << "\n";
  }

  std::string root_;
};

TEST_F(MemoryLimit, IsTheLeastOfTheGroupAndThoseAboveIt) {
  put("a/b/memory.max", "max");
  put("a/memory.max", "200");
  put("memory.max", "300");
  EXPECT_EQ(memory_limit("0::/a/b\n", root_), 200u);
  put("a/b/memory.high", "150");
  EXPECT_EQ(memory_limit("0::/a/b\n", root_), 150u);
  EXPECT_EQ(memory_limit("0::/\n", root_), 300u);
}

TEST_F(MemoryLimit, IsFoundInVersionOne) {
  put("memory/x/memory.limit_in_bytes", "1000");
  put("memory/memory.limit_in_bytes", "9223372036854771712");
  EXPECT_EQ(memory_limit("5:cpu,cpuacct:/x\n4:memory:/x\n0::/\n", root_), 1000u);
  EXPECT_EQ(memory_limit("4:hugetlb,memory:/x\n", root_), 1000u);
  EXPECT_EQ(memory_limit("4:memory:/\n", root_), std::nullopt);
  EXPECT_EQ(memory_limit("4:memorybandwidth:/x\n", root_), std::nullopt);
}

TEST_F(MemoryLimit, IsAtTheRootWhenTheGroupIsNotSeen) {
  put("memory/memory.limit_in_bytes", "500");
  EXPECT_EQ(memory_limit("4:memory:/docker/0123\n", root_), 500u);
}

TEST_F(MemoryLimit, IsNoneWhereNothingIsSaid) {
  EXPECT_EQ(memory_limit("", root_), std::nullopt);
  EXPECT_EQ(memory_limit("nonsense\n1:\n0::/nowhere\n", root_), std::nullopt);
  put("memory.max", "max");
  EXPECT_EQ(memory_limit("0::/\n", root_), std::nullopt);
  put("memory.max", "0");
  EXPECT_EQ(memory_limit("0::/\n", root_), std::nullopt);
}

}  // namespace
}  // namespace cairn::tools
