// Tests of block/open_policy.h: what images may bring about by being opened.
#include "block/open_policy.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "block/driver_table.h"

namespace cairn::block {
namespace {

constexpr DriverInfo kAnything = {
    .name = "raw", .probe = [](std::span<const std::byte>, std::string_view) { return 1; }};
constexpr DriverInfo kStriped = {.name = "striped",
                                 .probe = [](std::span<const std::byte> head, std::string_view) {
                                   return !head.empty() && head[0] == std::byte{'='} ? 100 : 0;
                                 }};

class OpenPolicyTest : public ::testing::Test {
 protected:
  OpenPolicyTest() {
    drivers_.add(kAnything);
    drivers_.add(kStriped);
  }

  // The format that an image beginning with `head` is taken for, or why it is none.
  std::string guess(const OpenPolicy& policy, std::string_view head) {
    const auto format = policy.guess_format(drivers_, std::as_bytes(std::span(head)), "disk");
    return std::string(format ? (*format)->name : format.error().message());
  }

  DriverTable drivers_;
};

TEST_F(OpenPolicyTest, ByDefaultAllIsAllowed) {
  const OpenPolicy policy;
  EXPECT_TRUE(policy.check_name("a", "backing", "b"));
  EXPECT_TRUE(policy.check_length("a", UINT64_MAX));
  EXPECT_TRUE(policy.check_guessing("a"));
  EXPECT_EQ(guess(policy, "=="), "striped");
  EXPECT_EQ(guess(policy, "conectix"), "raw");
}

TEST_F(OpenPolicyTest, AListOfFormatsIsAllThereIs) {
  const OpenPolicy policy{.formats = {{"striped"}}};
  EXPECT_TRUE(policy.check_guessing("disk"));
  EXPECT_EQ(guess(policy, "=="), "striped");
  EXPECT_EQ(guess(policy, "ab"),
            "Image 'disk' is in none of the formats that are allowed (striped)");
  EXPECT_EQ(guess(policy, ""), "Image 'disk' is in none of the formats that are allowed (striped)");
}

TEST_F(OpenPolicyTest, RawIsWhatIsKnownToBeNothingElse) {
  const OpenPolicy policy{.formats = {{"raw"}}};
  EXPECT_EQ(guess(policy, "ab"), "raw");
  EXPECT_EQ(guess(policy, "=="), "Image 'disk' is in format 'striped', and allowed are: raw");
  EXPECT_EQ(guess(policy, "conectix"), "Image 'disk' is in format 'vpc', and allowed are: raw");
}

TEST_F(OpenPolicyTest, WithoutFormatsNoneIsGuessed) {
  const auto guessing = OpenPolicy{.formats = {{}}}.check_guessing("disk");
  ASSERT_FALSE(guessing);
  EXPECT_EQ(guessing.error().code(), EPERM);
}

TEST_F(OpenPolicyTest, RefusalsNameTheImageAndWhatItAskedFor) {
  const OpenPolicy policy{.follow_names = false, .largest_disk = 1024};
  const auto name = policy.check_name("disk", "data", "/etc/passwd");
  ASSERT_FALSE(name);
  EXPECT_EQ(name.error().message(),
            "Image 'disk' names a data file ('/etc/passwd'), and opening it is not allowed");
  EXPECT_TRUE(policy.check_length("disk", 1024));
  const auto length = policy.check_length("disk", 1025);
  ASSERT_FALSE(length);
  EXPECT_EQ(length.error().message(),
            "Image 'disk' has a disk of 1025 bytes, and more than 1024 are not allowed");
}

TEST_F(OpenPolicyTest, MagicNumbersAreCompleteOrNone) {
  const auto format = [](std::string_view head) {
    return foreign_format(std::as_bytes(std::span(head)));
  };
  EXPECT_EQ(format("vhdxfile"), "vhdx");
  EXPECT_EQ(format("vhdxfil"), "");
  EXPECT_EQ(format(std::string(64, '\0') + "\x7f\x10\xda\xbe"), "vdi");
  EXPECT_EQ(format(std::string(64, '\0') + "\x7f\x10\xda"), "");
}

TEST_F(OpenPolicyTest, NamesAreShownWithoutControlCharactersAndNotAtAnyLength) {
  EXPECT_EQ(presentable("a\033[2Jb\n\x7f"), "a\\x1b[2Jb\\x0a\\x7f");
  EXPECT_EQ(presentable("größe"), "größe");
  EXPECT_EQ(presentable(std::string(201, 'x')), std::string(200, 'x') + "…");
}

}  // namespace
}  // namespace cairn::block
