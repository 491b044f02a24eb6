// Argon2, by the vectors of its reference implementation's tests (password "password", salt
// "somesalt"), which any later program has to reproduce.
#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "crypto/argon2_key.h"
#include "crypto/secret_bytes.h"

namespace cairn::crypto {
namespace {

std::string derive_by_argon2(Argon2Kind kind, Argon2Cost cost, std::string_view salt = "somesalt") {
  std::vector<std::byte> out(32);
  const auto derived = argon2(kind, bytes_of("password"), bytes_of(salt), cost, out);
  if (!derived) {
    return derived.error().code() == ENOTSUP ? "none" : derived.error().message();
  }
  std::string text;
  for (const std::byte byte : out) {
    text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  }
  return text;
}

TEST(Argon2, IsThatOfTheReference) {
  if (derive_by_argon2(Argon2Kind::kId, {.passes = 1, .memory = 32, .lanes = 1}) == "none") {
    GTEST_SKIP() << "this build has no Argon2";
  }
  EXPECT_EQ(derive_by_argon2(Argon2Kind::kId, {.passes = 2, .memory = 256, .lanes = 1}),
            "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe");
  EXPECT_EQ(derive_by_argon2(Argon2Kind::kId, {.passes = 2, .memory = 256, .lanes = 2}),
            "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037");
  EXPECT_EQ(derive_by_argon2(Argon2Kind::kI, {.passes = 2, .memory = 256, .lanes = 1}),
            "89e9029f4637b295beb027056a7336c414fadd43f6b208645281cb214a56452f");
  EXPECT_EQ(derive_by_argon2(Argon2Kind::kI, {.passes = 2, .memory = 256, .lanes = 2}),
            "4ff5ce2769a1d7f4c8a491df09d41a9fbe90e5eb02155a13e4c01e20cd4eab61");
  EXPECT_EQ(derive_by_argon2(Argon2Kind::kId, {.passes = 2, .memory = 65536, .lanes = 1}),
            "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
}

}  // namespace
}  // namespace cairn::crypto
