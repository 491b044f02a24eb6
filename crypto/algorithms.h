// The algorithms that encrypted images name: ciphers, their modes, how initialisation vectors are
// made, and hashes. Not all of them are there in every library: what is not is refused when it is
// to be used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace cairn::crypto {

// In the order of the interface's enumerations of the same names (schema/crypto.json).
enum class Cipher : uint8_t {
  kAes128,
  kAes192,
  kAes256,
  kDes,
  k3Des,
  kCast5,
  kSerpent128,
  kSerpent192,
  kSerpent256,
  kTwofish128,
  kTwofish192,
  kTwofish256,
  kSm4,
};
enum class CipherMode : uint8_t { kEcb, kCbc, kXts, kCtr };
enum class IvGenerator : uint8_t { kPlain, kPlain64, kEssiv };
enum class Hash : uint8_t { kMd5, kSha1, kSha224, kSha256, kSha384, kSha512, kRipemd160, kSm3 };

// Bytes of the key in any mode but XTS, which takes two keys of this length.
[[nodiscard]] std::size_t key_length(Cipher cipher);
[[nodiscard]] std::size_t block_length(Cipher cipher);
[[nodiscard]] std::size_t digest_length(Hash hash);

// "aes-256", as messages name it.
[[nodiscard]] std::string_view name_of(Cipher cipher);
[[nodiscard]] std::string_view name_of(CipherMode mode);
[[nodiscard]] std::string_view name_of(IvGenerator generator);
[[nodiscard]] std::string_view name_of(Hash hash);
[[nodiscard]] std::optional<CipherMode> find_cipher_mode(std::string_view name);
[[nodiscard]] std::optional<IvGenerator> find_iv_generator(std::string_view name);
[[nodiscard]] std::optional<Hash> find_hash(std::string_view name);

// The family of a cipher as LUKS headers name it: "aes"; empty when they have no name for it.
[[nodiscard]] std::string_view family_of(Cipher cipher);
// The member of a family whose key has so many bytes.
[[nodiscard]] std::optional<Cipher> find_cipher(std::string_view family, std::size_t key_bytes);
[[nodiscard]] bool is_cipher_family(std::string_view family);

}  // namespace cairn::crypto
