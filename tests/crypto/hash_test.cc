// Hashes, key derivation and the anti-forensic splitter, by published vectors.
#include "crypto/hash.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "crypto/anti_forensic.h"
#include "crypto/secret_bytes.h"

namespace cairn::crypto {
namespace {

std::string to_hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  }
  return text;
}

std::string hash_text(Hash hash, std::string_view text) {
  std::vector<std::byte> out(digest_length(hash));
  const auto hashed = hash_bytes(hash, {bytes_of(text)}, out);
  return hashed ? to_hex(out) : hashed.error().message();
}

// RFC 1321, FIPS 180-4, the page of RIPEMD-160, GB/T 32905: each of "abc".
TEST(Hash, EachIsThatOfItsStandard) {
  EXPECT_EQ(hash_text(Hash::kMd5, "abc"), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(hash_text(Hash::kSha1, "abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(hash_text(Hash::kSha224, "abc"),
            "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7");
  EXPECT_EQ(hash_text(Hash::kSha256, "abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hash_text(Hash::kRipemd160, "abc"), "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc");
  EXPECT_EQ(hash_text(Hash::kSm3, "abc"),
            "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0");
  EXPECT_EQ(hash_text(Hash::kSha384, "abc").substr(0, 16), "cb00753f45a35e8b");
  EXPECT_EQ(hash_text(Hash::kSha512, "abc").substr(0, 16), "ddaf35a193617aba");
}

// RFC 6070, and its vectors with SHA-256 (RFC 7914, section 11).
TEST(Pbkdf2, IsThatOfTheStandard) {
  const auto derive = [](Hash hash, std::string_view password, std::string_view salt,
                         uint32_t iterations, std::size_t length) {
    std::vector<std::byte> out(length);
    EXPECT_TRUE(pbkdf2(hash, bytes_of(password), bytes_of(salt), iterations, out));
    return to_hex(out);
  };
  EXPECT_EQ(derive(Hash::kSha1, "password", "salt", 1, 20),
            "0c60c80f961f0e71f3a9b524af6012062fe037a6");
  EXPECT_EQ(derive(Hash::kSha1, "password", "salt", 4096, 20),
            "4b007901b765489abead49d926f721d065a429c1");
  EXPECT_EQ(derive(Hash::kSha256, "passwd", "salt", 1, 64),
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
            "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783");
}

TEST(Pbkdf2, TakesMoreIterationsForMoreTime) {
  const auto few = pbkdf2_iterations(Hash::kSha256, 32, 0, 1000);
  ASSERT_TRUE(few);
  EXPECT_EQ(*few, 1000u);
  const auto many = pbkdf2_iterations(Hash::kSha256, 32, 100, 1000);
  ASSERT_TRUE(many);
  EXPECT_GT(*many, 1000u);
  const auto too_many = pbkdf2_iterations(Hash::kSha256, 32, UINT64_MAX, 1000);
  ASSERT_FALSE(too_many);
  EXPECT_EQ(too_many.error().code(), ERANGE);
}

TEST(AntiForensic, KeyComesBackAndEveryByteCounts) {
  for (const std::size_t length : {16, 32, 64}) {
    std::vector<std::byte> key(length);
    ASSERT_TRUE(random_bytes(key));
    constexpr uint32_t kStripes = 50;
    std::vector<std::byte> material(length * kStripes);
    ASSERT_TRUE(split_key(Hash::kSha1, kStripes, key, material));
    std::vector<std::byte> back(length);
    ASSERT_TRUE(merge_key(Hash::kSha1, kStripes, material, back));
    EXPECT_EQ(back, key);
    material[length * 20] ^= std::byte{1};
    ASSERT_TRUE(merge_key(Hash::kSha1, kStripes, material, back));
    EXPECT_NE(back, key);
  }
}

// Section 2.4 of the LUKS specification has no vectors; these were computed by a program that was
// written after its text and shares nothing with the one here. The material's bytes count on.
TEST(AntiForensic, IsThatOfTheSpecification) {
  const auto merged = [](Hash hash, std::size_t length, uint32_t stripes) {
    std::vector<std::byte> material(length * stripes);
    for (std::size_t i = 0; i < material.size(); ++i) {
      material[i] = std::byte(i * 7 + 3 + (i >> 8));
    }
    std::vector<std::byte> key(length);
    EXPECT_TRUE(merge_key(hash, stripes, material, key));
    return to_hex(key);
  };
  EXPECT_EQ(merged(Hash::kSha1, 16, 4), "dd3e497971bbd771d92dcb6c54f59967");
  EXPECT_EQ(merged(Hash::kSha256, 32, 4000),
            "841a0aed1e1926601524c081224569084f6085735902e203f86dbd9db4de25f0");
  EXPECT_EQ(merged(Hash::kSha256, 64, 4000),
            "43732f8175ebd901ece92cb1260f956f8c106e43e8a6c67bfb917dc04ad8fa3b"
            "acdfb41d45391138ec68ec8a133f54d97b62447ea76fa348c8f4a29456de6640");
  EXPECT_EQ(merged(Hash::kSha1, 64, 100),
            "b5d3f4890a3dda042fa73018a08e62e794a50df01ad907b84bb595c58d89738a"
            "cc65070c453f7c4b453f87a445d2a987bc473722a37bcf176e40192e23a4b2b6");
}

TEST(SecretBytes, MovingLeavesNothingBehind) {
  SecretBytes first(4);
  std::ranges::fill(first.span(), std::byte{7});
  SecretBytes second = std::move(first);
  EXPECT_TRUE(first.empty());  // NOLINT(bugprone-use-after-move): that is what is looked at
  EXPECT_EQ(second.size(), 4u);
  second = SecretBytes(2);
  EXPECT_EQ(second.size(), 2u);
  EXPECT_EQ(second.data()[0], std::byte{0});
}

TEST(SameBytes, TellsEveryDifference) {
  const std::vector<std::byte> one(3, std::byte{1});
  std::vector<std::byte> other = one;
  EXPECT_TRUE(same_bytes(one, other));
  other[2] = std::byte{0};
  EXPECT_FALSE(same_bytes(one, other));
  EXPECT_FALSE(same_bytes(one, std::span(one).first(2)));
}

}  // namespace
}  // namespace cairn::crypto
