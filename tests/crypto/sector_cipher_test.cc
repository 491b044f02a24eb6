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
