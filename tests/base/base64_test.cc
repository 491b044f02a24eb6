// Base64: the vectors of the standard, and what is refused.
#include "base/base64.h"

#include <string>

#include <gtest/gtest.h>

namespace cairn {
namespace {

// RFC 4648, section 10.
TEST(Base64, KeepsTheVectorsOfTheStandard) {
  const std::pair<const char*, const char*> vectors[] = {
      {"", ""},
      {"f", "Zg=="},
      {"fo", "Zm8="},
      {"foo", "Zm9v"},
      {"foob", "Zm9vYg=="},
      {"fooba", "Zm9vYmE="},
      {"foobar", "Zm9vYmFy"},
  };
  for (const auto& [bytes, text] : vectors) {
    EXPECT_EQ(encode_base64(bytes), text);
    EXPECT_EQ(decode_base64(text).value(), bytes);
  }
}

TEST(Base64, CarriesEveryByte) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) {
    bytes += static_cast<char>(i);
  }
  EXPECT_EQ(decode_base64(encode_base64(bytes)).value(), bytes);
}

TEST(Base64, PassesOverLineBreaksAndMissingPadding) {
  EXPECT_EQ(decode_base64("Zm9v\r\nYg\n").value(), "foob");
}

TEST(Base64, RefusesOtherCharacters) {
  for (const char* text : {"***", "Zm 9v", "Zm9v-", "Zg==Zg==", "=Zg"}) {
    const auto decoded = decode_base64(text);
    ASSERT_FALSE(decoded.has_value()) << text;
    EXPECT_EQ(decoded.error().message(), "Base64 data contains invalid characters");
  }
}

}  // namespace
}  // namespace cairn
