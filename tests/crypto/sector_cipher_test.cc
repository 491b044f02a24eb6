// Sector ciphers, by published vectors and by what their parts must be.
#include "crypto/sector_cipher.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "crypto/hash.h"

namespace cairn::crypto {
namespace {

using Bytes = std::vector<std::byte>;

Bytes from_hex(std::string_view text) {
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes.push_back(std::byte(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

Bytes encrypt(const SectorCipherParameters& parameters, const Bytes& key, uint64_t number,
              const Bytes& plain) {
  auto cipher = make_sector_cipher(parameters, key);
  EXPECT_TRUE(cipher) << cipher.error().message();
  Bytes out(plain.size());
  EXPECT_TRUE((*cipher)->encrypt(number, plain, out));
  Bytes back = out;
  EXPECT_TRUE((*cipher)->decrypt(number, back, back));
  EXPECT_EQ(back, plain);
  return out;
}

// IEEE 1619-2007, appendix B, vectors 1 and 2.
TEST(SectorCipher, XtsIsThatOfTheStandard) {
  SectorCipherParameters parameters{.cipher = Cipher::kAes128, .sector_size = 32};
  EXPECT_EQ(encrypt(parameters, Bytes(32), 0, Bytes(32)),
            from_hex("917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e"));
  Bytes key(16, std::byte{0x11});
  key.resize(32, std::byte{0x22});
  EXPECT_EQ(encrypt(parameters, key, 0x3333333333, Bytes(32, std::byte{0x44})),
            from_hex("c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0"));
}

// The same, vectors 4 and 10: whole sectors, with both lengths of key.
TEST(SectorCipher, XtsOfWholeSectorsIsThatOfTheStandard) {
  Bytes plain(512);
  std::ranges::generate(plain, [i = 0]() mutable { return std::byte(i++); });
  const SectorCipherParameters short_key{.cipher = Cipher::kAes128};
  const Bytes fourth = from_hex(
      "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89cc78cf7f5e543445f8333d8fa7f56"
      "000005279fa5d8b5e4ad40e736ddb4d35412328063fd2aab53e5ea1e0a9f332500a5df9487d07a5c92cc512c8866"
      "c7e860ce93fdf166a24912b422976146ae20ce846bb7dc9ba94a767aaef20c0d61ad02655ea92dc4c4e41a8952c6"
      "51d33174be51a10c421110e6d81588ede82103a252d8a750e8768defffed9122810aaeb99f9172af82b604dc4b8e"
      "51bcb08235a6f4341332e4ca60482a4ba1a03b3e65008fc5da76b70bf1690db4eae29c5f1badd03c5ccf2a55d705"
      "ddcd86d449511ceb7ec30bf12b1fa35b913f9f747a8afd1b130e94bff94effd01a91735ca1726acd0b197c4e5b03"
      "393697e126826fb6bbde8ecc1e08298516e2c9ed03ff3c1b7860f6de76d4cecd94c8119855ef5297ca67e9f3e7ff"
      "72b1e99785ca0a7e7720c5b36dc6d72cac9574c8cbbc2f801e23e56fd344b07f22154beba0f08ce8891e643ed995"
      "c94d9a69c9f1b5f499027a78572aeebd74d20cc39881c213ee770b1010e4bea718846977ae119f7a023ab58cca0a"
      "d752afe656bb3c17256a9f6e9bf19fdd5a38fc82bbe872c5539edb609ef4f79c203ebb140f2e583cb2ad15b4aa5b"
      "655016a8449277dbd477ef2c8d6c017db738b18deb4a427d1923ce3ff262735779a418f20a282df920147beabe42"
      "1ee5319d0568");
  EXPECT_EQ(encrypt(short_key,
                    from_hex("2718281828459045235360287471352631415926535897932384626433832795"), 0,
                    plain),
            fourth);
  const SectorCipherParameters long_key{.cipher = Cipher::kAes256};
  const Bytes tenth = from_hex(
      "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b5d31e276f8fe4a8d66b317f9ac68"
      "3f44680a86ac35adfc3345befecb4bb188fd5776926c49a3095eb108fd1098baec70aaa66999a72a82f27d848b21"
      "d4a741b0c5cd4d5fff9dac89aeba122961d03a757123e9870f8acf1000020887891429ca2a3e7a7d7df7b1035516"
      "5c8b9a6d0a7de8b062c4500dc4cd120c0f7418dae3d0b5781c34803fa75421c790dfe1de1834f280d7667b327f6c"
      "8cd7557e12ac3a0f93ec05c52e0493ef31a12d3d9260f79a289d6a379bc70c50841473d1a8cc81ec583e9645e07b"
      "8d9670655ba5bbcfecc6dc3966380ad8fecb17b6ba02469a020a84e18e8f84252070c13e9f1f289be54fbc481457"
      "778f616015e1327a02b140f1505eb309326d68378f8374595c849d84f4c333ec4423885143cb47bd71c5edae9be6"
      "9a2ffeceb1bec9de244fbe15992b11b77c040f12bd8f6a975a44a0f90c29a9abc3d4d893927284c58754cce29452"
      "9f8614dcd2aba991925fedc4ae74ffac6e333b93eb4aff0479da9a410e4450e0dd7ae4c6e2910900575da401fc07"
      "059f645e8b7e9bfdef33943054ff84011493c27b3429eaedb4ed5376441a77ed43851ad77f16f541dfd269d50d6a"
      "5f14fb0aab1cbb4c1550be97f7ab4066193c4caa773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6"
      "e693e148c151");
  EXPECT_EQ(encrypt(long_key,
                    from_hex("2718281828459045235360287471352662497757247093699959574966967627"
                             "3141592653589793238462643383279502884197169399375105820974944592"),
                    0xff, plain),
            tenth);
}

// NIST SP 800-38A, F.1.1; the first block of CBC with an initialisation vector of zeroes is the
// same.
TEST(SectorCipher, EcbAndCbcAreThoseOfTheStandard) {
  const Bytes key = from_hex("2b7e151628aed2a6abf7158809cf4f3c");
  const Bytes plain = from_hex("6bc1bee22e409f96e93d7e117393172a");
  const Bytes stored = from_hex("3ad77bb40d7a3660a89ecaf32466ef97");
  SectorCipherParameters parameters{
      .cipher = Cipher::kAes128, .mode = CipherMode::kEcb, .sector_size = 16};
  EXPECT_EQ(encrypt(parameters, key, 7, plain), stored);
  parameters.mode = CipherMode::kCbc;
  EXPECT_EQ(encrypt(parameters, key, 0, plain), stored);
  EXPECT_NE(encrypt(parameters, key, 7, plain), stored);
}

// Many sectors at once are what each of them is alone, in every mode, across batches.
TEST(SectorCipher, SectorsDoNotDependOnEachOther) {
  for (const CipherMode mode :
       {CipherMode::kEcb, CipherMode::kCbc, CipherMode::kXts, CipherMode::kCtr}) {
    for (const uint32_t sector : {512u, 4096u, 32768u}) {
      const SectorCipherParameters parameters{
          .cipher = Cipher::kAes256, .mode = mode, .sector_size = sector};
      Bytes key(key_length(parameters));
      std::ranges::generate(key, [i = 0]() mutable { return std::byte(i++); });
      Bytes plain(sector * 37);
      std::ranges::generate(plain, [i = 0u]() mutable { return std::byte(i++ * 7919 >> 5); });
      const Bytes all = encrypt(parameters, key, 1000, plain);
      for (std::size_t i = 0; i < 37; ++i) {
        const Bytes one(plain.begin() + i * sector, plain.begin() + (i + 1) * sector);
        const Bytes stored(all.begin() + i * sector, all.begin() + (i + 1) * sector);
        ASSERT_EQ(encrypt(parameters, key, 1000 + i, one), stored) << name_of(mode) << " " << i;
      }
    }
  }
}

TEST(SectorCipher, PlainNumbersHaveThirtyTwoBits) {
  SectorCipherParameters parameters{.iv_generator = IvGenerator::kPlain};
  const Bytes key(64, std::byte{1});
  const Bytes plain(512, std::byte{2});
  const uint64_t large = (uint64_t{1} << 32) + 5;
  EXPECT_EQ(encrypt(parameters, key, large, plain), encrypt(parameters, key, 5, plain));
  parameters.iv_generator = IvGenerator::kPlain64;
  EXPECT_NE(encrypt(parameters, key, large, plain), encrypt(parameters, key, 5, plain));
}

// The number is encrypted with the hash of the key: the first block of zeroes then shows it.
TEST(SectorCipher, EssivEncryptsTheNumber) {
  const Bytes key(16, std::byte{3});
  Bytes hashed(32);
  ASSERT_TRUE(hash_bytes(Hash::kSha256, {key}, hashed));
  Bytes number(16);
  store_le<uint64_t>(number.data(), 77);
  const SectorCipherParameters ecb256{
      .cipher = Cipher::kAes256, .mode = CipherMode::kEcb, .sector_size = 16};
  SectorCipherParameters ecb = ecb256;
  ecb.cipher = Cipher::kAes128;
  const Bytes expected = encrypt(ecb, key, 0, encrypt(ecb256, hashed, 0, number));
  const SectorCipherParameters essiv{.cipher = Cipher::kAes128,
                                     .mode = CipherMode::kCbc,
                                     .iv_generator = IvGenerator::kEssiv,
                                     .sector_size = 16};
  EXPECT_EQ(encrypt(essiv, key, 77, Bytes(16)), expected);
}

TEST(SectorCipher, OtherCiphersAreThereWhereOpensslHasThem) {
  for (const Cipher cipher : {Cipher::kAes192, Cipher::kSm4}) {
    const SectorCipherParameters parameters{.cipher = cipher};
    const Bytes key(key_length(parameters), std::byte{9});
    EXPECT_NE(encrypt(parameters, key, 1, Bytes(512)), Bytes(512));
  }
  const SectorCipherParameters cast{.cipher = Cipher::kCast5, .mode = CipherMode::kCbc};
  EXPECT_NE(encrypt(cast, Bytes(16), 1, Bytes(512)), Bytes(512));
}

TEST(SectorCipher, WhatIsNotThereIsRefusedByName) {
  const auto refusal = [](SectorCipherParameters parameters) {
    const Bytes key(key_length(parameters));
    const auto made = make_sector_cipher(parameters, key);
    EXPECT_FALSE(made);
    EXPECT_EQ(made.error().code(), ENOTSUP);
    return made ? "" : made.error().message();
  };
  EXPECT_EQ(refusal({.cipher = Cipher::kSerpent256}),
            "Algorithm 'serpent-256' is not supported in mode 'xts'");
  EXPECT_EQ(refusal({.cipher = Cipher::kCast5}), "Unsupported cipher mode xts");
  EXPECT_EQ(refusal({.mode = CipherMode::kCbc,
                     .iv_generator = IvGenerator::kEssiv,
                     .iv_hash = Hash::kSha512}),
            "No AES cipher with key size 64 available");
  EXPECT_EQ(make_sector_cipher({}, Bytes(63)).error().code(), EINVAL);
}

}  // namespace
}  // namespace cairn::crypto
