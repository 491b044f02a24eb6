// The entry of the module: the Library on OpenSSL. See crypto/library.h.
#include <utility>

#include "crypto/library.h"
#include "crypto/openssl/cipher.h"
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

// Found by name; the only thing in the module that is visible.
extern "C" [[gnu::visibility("default")]] const cairn::crypto::Library* cairn_crypto_library() {
  static const cairn::crypto::OpensslLibrary library;
  return &library;
}
