// Headers of LUKS1: what is written comes back, and what makes no sense is refused by name.
#include "formats/encryption/luks1_header.h"

#include <cerrno>
#include <functional>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace cairn::encryption {
namespace {

using Bytes = std::vector<std::byte>;

Luks1Header sample() {
  Luks1Header header;
  header.key_bytes = 64;
  const Luks1Layout layout = Luks1Layout::compute(header.key_bytes);
  header.payload_sector = static_cast<uint32_t>(layout.payload / kLuksSector);
  header.key_digest_iterations = 1000;
  header.key_digest.fill(std::byte{3});
  header.uuid = "01234567-89ab-cdef-0123-456789abcdef";
  for (std::size_t i = 0; i < Luks1Header::kSlots; ++i) {
    header.slots[i].material_sector = static_cast<uint32_t>(layout.material[i] / kLuksSector);
  }
  header.slots[0].active = true;
  header.slots[0].iterations = 1234;
  header.slots[0].salt.fill(std::byte{7});
  return header;
}

TEST(Luks1Header, ComesBackAsItWasWritten) {
  const Luks1Header header = sample();
  const Bytes bytes = serialize_luks1_header(header);
  ASSERT_EQ(bytes.size(), Luks1Header::kBytes);
  EXPECT_EQ(luks_version(bytes), 1u);
  const auto parsed = parse_luks1_header(bytes, false);
  ASSERT_TRUE(parsed) << parsed.error().message();
  EXPECT_EQ(serialize_luks1_header(*parsed), bytes);
  EXPECT_EQ(parsed->cipher.cipher, crypto::Cipher::kAes256);
  EXPECT_EQ(parsed->uuid, header.uuid);
  EXPECT_EQ(parsed->active_slots(), 1u);
}

TEST(Luks1Header, HasItsPlaceAsOthersWriteIt) {
  EXPECT_EQ(Luks1Layout::compute(64).payload, 2068480u);
  EXPECT_EQ(Luks1Layout::compute(64).material[1], 262144u);
  EXPECT_EQ(Luks1Layout::compute(16).payload, 528384u);
}

TEST(Luks1Header, CiphersHaveTheNamesOfTheSpecification) {
  EXPECT_EQ(mode_text({}), "xts-plain64");
  EXPECT_EQ(
      mode_text({.mode = crypto::CipherMode::kCbc, .iv_generator = crypto::IvGenerator::kEssiv}),
      "cbc-essiv:sha256");
  const auto cipher = parse_cipher("aes", "cbc-essiv:sha1", 24);
  ASSERT_TRUE(cipher);
  EXPECT_EQ(cipher->cipher, crypto::Cipher::kAes192);
  EXPECT_EQ(cipher->iv_hash, crypto::Hash::kSha1);
  EXPECT_TRUE(parse_cipher("aes", "ecb", 16));
}

std::string refusal(std::size_t offset, std::string_view replacement, bool detached = false) {
  Bytes bytes = serialize_luks1_header(sample());
  for (std::size_t i = 0; i < replacement.size(); ++i) {
    bytes[offset + i] = std::byte(replacement[i]);
  }
  const auto parsed = parse_luks1_header(bytes, detached);
  return parsed ? "" : parsed.error().message();
}

std::string refusal(std::size_t offset, uint32_t value, bool detached = false) {
  std::string text(4, '\0');
  store_be(text.data(), value);
  return refusal(offset, std::string_view(text), detached);
}

constexpr std::size_t slot(std::size_t index, std::size_t field) {
  return 208 + index * 48 + field;
}

TEST(Luks1Header, RefusesWhatItDoesNotKnow) {
  using namespace std::literals;
  EXPECT_EQ(refusal(8, "foo\0"sv), "Algorithm 'foo' with key size 32 bytes not supported");
  EXPECT_EQ(refusal(8, std::string(32, 'a')), "LUKS header cipher name is not NUL terminated");
  EXPECT_EQ(refusal(40, std::string(32, 'a')), "LUKS header cipher mode is not NUL terminated");
  EXPECT_EQ(refusal(72, std::string(32, 'a')), "LUKS header hash spec is not NUL terminated");
  EXPECT_EQ(refusal(40, "xts\0"sv), "Unexpected cipher mode string format 'xts'");
  EXPECT_EQ(refusal(40, "foo-"sv), "Cipher mode 'foo' not supported");
  EXPECT_EQ(refusal(40, "xts-foo\0"sv), "IV generator 'foo' not supported");
  EXPECT_EQ(refusal(40, "xts-essiv:foo\0"sv), "Hash algorithm 'foo' not supported");
  EXPECT_EQ(refusal(40, "xts-essiv\0"sv),
            "IV generator 'essiv' needs a hash, as in 'essiv:sha256'");
  EXPECT_EQ(refusal(72, "foo\0"sv), "Hash algorithm 'foo' not supported");
}

TEST(Luks1Header, RefusesNumbersThatMakeNoSense) {
  EXPECT_EQ(refusal(104, 1), "LUKS payload is overlapping with the header");
  EXPECT_EQ(refusal(104, 100), "Keyslot 0 is overlapping with the encrypted payload");
  EXPECT_EQ(refusal(104, 0, true), "");
  EXPECT_EQ(refusal(108, 0), "Algorithm 'aes' with key size 0 bytes not supported");
  EXPECT_EQ(refusal(108, 1000), "Keyslot 0 is overlapping with the encrypted payload");
  EXPECT_EQ(refusal(164, 0), "LUKS key iteration count is zero");
  EXPECT_EQ(refusal(164, UINT32_MAX), "LUKS key iteration count 4294967295 is too large");
  EXPECT_EQ(refusal(slot(3, 0), 5), "Keyslot 3 state (active/disable) is corrupted");
  EXPECT_EQ(refusal(slot(0, 4), 0), "Keyslot 0 iteration count is zero");
  EXPECT_EQ(refusal(slot(0, 4), 1u << 31), "Keyslot 0 iteration count 2147483648 is too large");
  EXPECT_EQ(refusal(slot(3, 4), 0), "");
  EXPECT_EQ(refusal(slot(3, 44), 7), "Keyslot 3 is corrupted (stripes 7 != 4000)");
  EXPECT_EQ(refusal(slot(0, 40), 1), "Keyslot 0 is overlapping with the LUKS header");
  EXPECT_EQ(refusal(slot(3, 40), 9), "Keyslots 0 and 3 are overlapping in the header");
  EXPECT_EQ(refusal(slot(7, 40), 4000), "Keyslot 7 is overlapping with the encrypted payload");
  EXPECT_EQ(refusal(slot(3, 40), 0xfffffff0),
            "Keyslot 3 is overlapping with the encrypted payload");
}

// Whatever a byte is changed to: refused, or something that can be written again.
TEST(Luks1Header, AnyByteMayBeHostile) {
  const Bytes good = serialize_luks1_header(sample());
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const uint8_t value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      Bytes bytes = good;
      bytes[i] = std::byte{value};
      const auto parsed = parse_luks1_header(bytes, false);
      if (parsed) {
        EXPECT_LE(parsed->material_bytes(), uint64_t{parsed->payload_sector} * kLuksSector);
        EXPECT_EQ(serialize_luks1_header(*parsed).size(), Luks1Header::kBytes);
      }
    }
  }
}

}  // namespace
}  // namespace cairn::encryption
