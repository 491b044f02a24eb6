// The entry of the module: the Library on OpenSSL. See crypto/library.h.
#include <cstdint>
#include <utility>

#include <openssl/crypto.h>

#include "crypto/library.h"
#include "crypto/openssl/argon2.h"
#include "crypto/openssl/cipher.h"
#include "crypto/openssl/hash.h"
#include "crypto/openssl/sector_cipher.h"
#include "crypto/openssl/tls_context.h"

namespace cairn::crypto {

namespace {

class OpensslLibrary final : public Library {
 public:
  Result<std::string> decrypt_aes_256_cbc(std::string_view key, std::string_view iv,
                                          std::string_view text) const override {
    return openssl::decrypt_aes_256_cbc(key, iv, text);
  }
  Result<std::unique_ptr<Digest>> make_sha256() const override { return openssl::make_sha256(); }
  Result<void> hash_bytes(Hash hash, std::span<const std::span<const std::byte>> parts,
                          std::span<std::byte> out) const override {
    return openssl::hash_bytes(hash, parts, out);
  }
  Result<void> pbkdf2(Hash hash, std::span<const std::byte> password,
                      std::span<const std::byte> salt, uint32_t iterations,
                      std::span<std::byte> out) const override {
    return openssl::pbkdf2(hash, password, salt, iterations, out);
  }
  Result<void> argon2(Argon2Kind kind, std::span<const std::byte> password,
                      std::span<const std::byte> salt, Argon2Cost cost,
                      std::span<std::byte> out) const override {
    return openssl::argon2(kind, password, salt, cost, out);
  }
  Result<std::unique_ptr<SectorCipher>> make_sector_cipher(
      const SectorCipherParameters& parameters, std::span<const std::byte> key) const override {
    return openssl::make_sector_cipher(parameters, key);
  }
  Result<Credentials> load(const X509Credentials& credentials) const override {
    return TlsContext::load(credentials);
  }
  Result<Credentials> load(PskCredentials credentials) const override {
    return TlsContext::load(std::move(credentials));
  }
  Result<Credentials> load(const AnonymousCredentials& credentials) const override {
    return TlsContext::load(credentials);
  }
};

}  // namespace

}  // namespace cairn::crypto

// Found by name; the only thing in the module that is visible. OpenSSL is initialised by the thread
// that loads the module, not by the one that happens to use it first. At the end of the program it
// does not clean up: workers may end after that, and only then give back what it keeps for each
// thread.
extern "C" [[gnu::visibility("default")]] const cairn::crypto::Library* cairn_crypto_library() {
  constexpr uint64_t kHow = OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT;
  OPENSSL_init_crypto(kHow, nullptr);  // what fails, fails again in use
  static const cairn::crypto::OpensslLibrary kLibrary;
  return &kLibrary;
}
