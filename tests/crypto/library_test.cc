// Finding and loading the module.
#include "crypto/library.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace cairn::crypto {
namespace {

class LibraryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "cairn-module-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string refusal() {
    const std::vector<std::string> folders = {folder_.string()};
    const auto loaded = load_library(folders);
    if (loaded) {
      return "loaded";
    }
    EXPECT_EQ(loaded.error().code(), ENOTSUP);
    return loaded.error().message();
  }

  std::filesystem::path folder_;
};

TEST_F(LibraryTest, IsThereBesideThePrograms) {
  const auto first = library();
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_EQ(*first, *library());
}

TEST_F(LibraryTest, SaysWhatIsMissing) {
  EXPECT_EQ(refusal(),
            "TLS and ciphers need libcairn-crypto.so, which can not be loaded: there is no such "
            "file");
}

TEST_F(LibraryTest, SaysWhyAModuleIsNotLoaded) {
  const std::string path = folder_ / "libcairn-crypto.so";
  std::ofstream(path) << "no ELF at all";
  const std::string message = refusal();
  EXPECT_TRUE(message.starts_with(
      "TLS and ciphers need libcairn-crypto.so, which can not be loaded: " + path + ": "))
      << message;
}

}  // namespace
}  // namespace cairn::crypto
