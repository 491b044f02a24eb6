#include "crypto/algorithms.h"

#include <algorithm>
#include <array>
#include <span>

namespace cairn::crypto {
namespace {

struct CipherFacts {
  std::string_view name;
  std::string_view family;
  std::size_t key;
  std::size_t block;
};

constexpr std::array<CipherFacts, 13> kCiphers = {{{"aes-128", "aes", 16, 16},
                                                   {"aes-192", "aes", 24, 16},
                                                   {"aes-256", "aes", 32, 16},
                                                   {"des", "", 8, 8},
                                                   {"3des", "", 24, 8},
                                                   {"cast5-128", "cast5", 16, 8},
                                                   {"serpent-128", "serpent", 16, 16},
                                                   {"serpent-192", "serpent", 24, 16},
                                                   {"serpent-256", "serpent", 32, 16},
                                                   {"twofish-128", "twofish", 16, 16},
                                                   {"twofish-192", "twofish", 24, 16},
                                                   {"twofish-256", "twofish", 32, 16},
                                                   {"sm4", "sm4", 16, 16}}};
constexpr std::array<std::string_view, 4> kModes = {"ecb", "cbc", "xts", "ctr"};
constexpr std::array<std::string_view, 3> kGenerators = {"plain", "plain64", "essiv"};

struct HashFacts {
  std::string_view name;
  std::size_t length;
};

constexpr std::array<HashFacts, 8> kHashes = {{{"md5", 16},
                                               {"sha1", 20},
                                               {"sha224", 28},
                                               {"sha256", 32},
                                               {"sha384", 48},
                                               {"sha512", 64},
                                               {"ripemd160", 20},
                                               {"sm3", 32}}};

const CipherFacts& facts(Cipher cipher) { return kCiphers[static_cast<std::size_t>(cipher)]; }
const HashFacts& facts(Hash hash) { return kHashes[static_cast<std::size_t>(hash)]; }

template <typename Enum>
std::optional<Enum> find_name(std::span<const std::string_view> names, std::string_view name) {
  const auto found = std::ranges::find(names, name);
  return found == names.end() ? std::nullopt
                              : std::optional(static_cast<Enum>(found - names.begin()));
}

}  // namespace

std::size_t key_length(Cipher cipher) { return facts(cipher).key; }
std::size_t block_length(Cipher cipher) { return facts(cipher).block; }
std::size_t digest_length(Hash hash) { return facts(hash).length; }

std::string_view name_of(Cipher cipher) { return facts(cipher).name; }
std::string_view name_of(CipherMode mode) { return kModes[static_cast<std::size_t>(mode)]; }
std::string_view name_of(IvGenerator generator) {
  return kGenerators[static_cast<std::size_t>(generator)];
}
std::string_view name_of(Hash hash) { return facts(hash).name; }
std::string_view family_of(Cipher cipher) { return facts(cipher).family; }

std::optional<CipherMode> find_cipher_mode(std::string_view name) {
  return find_name<CipherMode>(kModes, name);
}

std::optional<IvGenerator> find_iv_generator(std::string_view name) {
  return find_name<IvGenerator>(kGenerators, name);
}

std::optional<Hash> find_hash(std::string_view name) {
  const auto found = std::ranges::find(kHashes, name, &HashFacts::name);
  return found == kHashes.end() ? std::nullopt
                                : std::optional(static_cast<Hash>(found - kHashes.begin()));
}

std::optional<Cipher> find_cipher(std::string_view family, std::size_t key_bytes) {
  const auto found = std::ranges::find_if(kCiphers, [&](const CipherFacts& cipher) {
    return !family.empty() && cipher.family == family && cipher.key == key_bytes;
  });
  return found == kCiphers.end() ? std::nullopt
                                 : std::optional(static_cast<Cipher>(found - kCiphers.begin()));
}

bool is_cipher_family(std::string_view family) {
  return !family.empty() &&
         std::ranges::find(kCiphers, family, &CipherFacts::family) != kCiphers.end();
}

}  // namespace cairn::crypto
