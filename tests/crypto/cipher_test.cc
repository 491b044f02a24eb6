// The cipher of secrets: a vector that another program made, and what is refused.
#include "crypto/cipher.h"

#include <string>

#include <gtest/gtest.h>

#include "base/base64.h"

namespace cairn::crypto {
namespace {

// printf hunter2 | openssl enc -aes-256-cbc -base64 -K 0101…01 -iv 0000…00
const std::string kKey(32, '\1');
const std::string kIv(16, '\0');
constexpr const char* kEncrypted = "Gz1wEznXi0USYdSH8jGzaw==";

std::string refusal(std::string_view key, std::string_view iv, std::string_view text) {
  const auto plain = decrypt_aes_256_cbc(key, iv, text);
  return plain ? "accepted" : plain.error().message();
}

TEST(Cipher, DecryptsWhatOpensslEncrypts) {
  EXPECT_EQ(decrypt_aes_256_cbc(kKey, kIv, decode_base64(kEncrypted).value()).value(), "hunter2");
}

TEST(Cipher, RefusesWrongLengthsAndOtherKeys) {
  const std::string text = decode_base64(kEncrypted).value();
  EXPECT_EQ(refusal(kKey, "abc", text), "IV should be 16 bytes in length not 3");
  EXPECT_EQ(refusal(kKey, kIv, "abcd"), "Length 4 must be a multiple of block size 16");
  EXPECT_EQ(refusal(kKey, kIv, ""), "Length 0 must be a multiple of block size 16");
  EXPECT_EQ(refusal(std::string(32, '\2'), kIv, text), "Incorrect padding found on decrypted data");
}

TEST(Cipher, WipingEmpties) {
  std::string text = "secret";
  wipe(text);
  EXPECT_EQ(text, "");
}

}  // namespace
}  // namespace cairn::crypto
