// Library: what Cairn needs of a cryptographic library, behind one interface.
//
// The implementation on OpenSSL (crypto/openssl/) is a module, libcairn-crypto.so, which is loaded
// when something of it is used for the first time and stays. Most processes never use any of it,
// and loading OpenSSL takes longer than all that cairnd does until it serves.
//
// The headers beside this one are what users include; they call library() themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "crypto/algorithms.h"
#include "io/tls.h"

namespace cairn::crypto {

class Digest;
class SectorCipher;
enum class Argon2Kind : uint8_t;
struct Argon2Cost;
struct AnonymousCredentials;
struct PskCredentials;
struct SectorCipherParameters;
struct X509Credentials;

// Has no state: any thread may use it at any time.
class Library {
 public:
  Library() = default;
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  virtual ~Library() = default;

  using Credentials = std::shared_ptr<const io::TlsCredentials>;

  // As the functions of the same names in argon2_key.h, cipher.h, digest.h, hash.h, sector_cipher.h
  // and tls_credentials.h.
  [[nodiscard]] virtual Result<std::string> decrypt_aes_256_cbc(std::string_view key,
                                                                std::string_view iv,
                                                                std::string_view text) const = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<Digest>> make_sha256() const = 0;
  [[nodiscard]] virtual Result<void> hash_bytes(Hash hash,
                                                std::span<const std::span<const std::byte>> parts,
                                                std::span<std::byte> out) const = 0;
  [[nodiscard]] virtual Result<void> pbkdf2(Hash hash, std::span<const std::byte> password,
                                            std::span<const std::byte> salt, uint32_t iterations,
                                            std::span<std::byte> out) const = 0;
  [[nodiscard]] virtual Result<void> argon2(Argon2Kind kind, std::span<const std::byte> password,
                                            std::span<const std::byte> salt, Argon2Cost cost,
                                            std::span<std::byte> out) const = 0;
  [[nodiscard]] virtual Result<std::unique_ptr<SectorCipher>> make_sector_cipher(
      const SectorCipherParameters& parameters, std::span<const std::byte> key) const = 0;
  [[nodiscard]] virtual Result<Credentials> load(const X509Credentials& credentials) const = 0;
  [[nodiscard]] virtual Result<Credentials> load(PskCredentials credentials) const = 0;
  [[nodiscard]] virtual Result<Credentials> load(const AnonymousCredentials& credentials) const = 0;
};

// The module's, loaded if it was not yet. Fails with ENOTSUP when it is not installed or OpenSSL is
// not, which is found out once. The result lives as long as the process.
[[nodiscard]] Result<const Library*> library();

// Looks for the module in these folders, one after the other. library() does so once, in those
// beside the program.
[[nodiscard]] Result<const Library*> load_library(std::span<const std::string> folders);

}  // namespace cairn::crypto
