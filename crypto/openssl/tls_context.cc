#include "crypto/openssl/tls_context.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

#include "crypto/cipher.h"
#include "crypto/openssl/certificates.h"
#include "crypto/openssl/tls_session.h"

namespace cairn::crypto {

namespace {

using File = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

struct Files {
  std::string authorities;
  std::optional<std::string> revoked;
  std::optional<std::string> certificate;
  std::optional<std::string> key;
  std::optional<std::string> dh;
};

File open_file(const std::string& path) { return {BIO_new_file(path.c_str(), "r"), &BIO_free}; }

Result<Files> find_files(const X509Credentials& credentials) {
  struct Wanted {
    std::optional<std::string> path;
    std::string name;
    bool required;
  };
  const std::string end = credentials.server ? "server" : "client";
  Wanted wanted[] = {{{}, "ca-cert.pem", true},
                     {{}, end + "-cert.pem", credentials.server},
                     {{}, end + "-key.pem", credentials.server},
                     {{}, "ca-crl.pem", false},
                     {{}, "dh-params.pem", false}};
  for (Wanted& file : wanted) {
    auto path = find_credential(credentials.dir, file.name, file.required);
    if (!path) {
      return pass(path);
    }
    file.path = std::move(*path);
  }
  return Files{.authorities = *wanted[0].path,
               .revoked = wanted[3].path,
               .certificate = wanted[1].path,
               .key = wanted[2].path,
               .dh = credentials.server ? wanted[4].path : std::nullopt};
}

Result<void> check_sanity(const Files& files, bool server) {
  const CertificateRole role = server ? CertificateRole::kServer : CertificateRole::kClient;
  std::vector<Certificate> own;
  if (files.certificate) {
    auto read = read_certificates(*files.certificate, role);
    if (!read) {
      return pass(read);
    }
    own = std::move(*read);
  }
  auto authorities = read_certificates(files.authorities, CertificateRole::kAuthority);
  if (!authorities) {
    return pass(authorities);
  }
  for (const Certificate& one : *authorities) {
    auto checked = check_certificate(one.get(), files.authorities, CertificateRole::kAuthority);
    if (!checked) {
      return checked;
    }
  }
  if (own.empty()) {
    return {};
  }
  auto checked = check_certificate(own[0].get(), *files.certificate, role);
  if (!checked) {
    return checked;
  }
  return verify_certificate(own, *files.certificate, *authorities, files.authorities);
}

// Never asks on the terminal.
int give_password(char* buffer, int size, int, void* data) {
  const auto* password = static_cast<const std::optional<std::string>*>(data);
  if (!*password) {
    return -1;
  }
  const size_t length = std::min((*password)->size(), static_cast<size_t>(size));
  std::copy_n((*password)->data(), length, buffer);
  return static_cast<int>(length);
}

Result<void> load_own(SSL_CTX* context, const Files& files, const X509Credentials& credentials) {
  const std::string what =
      fmt::format("Cannot load certificate '{}' & key '{}'", *files.certificate, *files.key);
  if (SSL_CTX_use_certificate_chain_file(context, files.certificate->c_str()) != 1) {
    return fail(EINVAL, "{}: {}", what, take_openssl_error());
  }
  const File file = open_file(*files.key);
  auto password = credentials.password;
  const Key key(
      file ? PEM_read_bio_PrivateKey(file.get(), nullptr, &give_password, &password) : nullptr,
      &EVP_PKEY_free);
  if (!key) {
    const int reason = ERR_GET_REASON(ERR_peek_last_error());
    const bool undecipherable = reason == PEM_R_BAD_PASSWORD_READ || reason == PEM_R_BAD_DECRYPT ||
                                ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_PROV ||
                                reason == EVP_R_BAD_DECRYPT;
    const std::string text = take_openssl_error();
    return fail(EINVAL, "{}: {}", what, undecipherable ? "Decryption has failed." : text);
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    ERR_clear_error();
    return fail(EINVAL, "{}: The certificate and the given key do not match.", what);
  }
  return {};
}

Result<void> load_revoked(SSL_CTX* context, const std::string& path) {
  const File file = open_file(path);
  X509_STORE* store = SSL_CTX_get_cert_store(context);
  bool any = false;
  while (X509_CRL* list =
             file ? PEM_read_bio_X509_CRL(file.get(), nullptr, nullptr, nullptr) : nullptr) {
    any = X509_STORE_add_crl(store, list) == 1 || any;
    X509_CRL_free(list);
  }
  const std::string reason = take_openssl_error();
  if (!any) {
    return fail(EINVAL, "Cannot load CRL '{}': {}", path, reason);
  }
  X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
  return {};
}

Result<Key> read_dh_parameters(const std::string& path) {
  const File file = open_file(path);
  Key parameters(file ? PEM_read_bio_Parameters(file.get(), nullptr) : nullptr, &EVP_PKEY_free);
  if (!parameters) {
    return fail(EINVAL, "Unable to load DH parameters from {}: {}", path, take_openssl_error());
  }
  return parameters;
}

Key named_group() {
  EVP_PKEY* made = nullptr;
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> maker(
      EVP_PKEY_CTX_new_from_name(nullptr, "DH", nullptr), &EVP_PKEY_CTX_free);
  if (maker && EVP_PKEY_paramgen_init(maker.get()) == 1 &&
      EVP_PKEY_CTX_set_group_name(maker.get(), "ffdhe2048") == 1) {
    EVP_PKEY_paramgen(maker.get(), &made);
  }
  return {made, &EVP_PKEY_free};
}

}  // namespace

Result<void> check_dh_parameters(const std::string& path) {
  auto parameters = read_dh_parameters(path);
  return parameters ? Result<void>() : pass(parameters);
}

Result<TlsContext::Pointer> TlsContext::make(bool server) {
  SSL_CTX* const raw = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
  Pointer context(new TlsContext(raw, server));
  if (raw == nullptr || SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION) != 1) {
    return fail(ENOMEM, "Cannot set up TLS: {}", take_openssl_error());
  }
  // Connections are long and seldom: there is nothing to be gained by resuming sessions.
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(raw, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_num_tickets(raw, 0);
  // An idle connection needs no buffers.
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
  return context;
}

Result<void> TlsContext::load_x509(SSL_CTX* context, const X509Credentials& credentials) {
  auto files = find_files(credentials);
  if (!files) {
    return pass(files);
  }
  if (credentials.sanity_check) {
    auto checked = check_sanity(*files, credentials.server);
    if (!checked) {
      return pass(checked);
    }
  }
  if (SSL_CTX_load_verify_locations(context, files->authorities.c_str(), nullptr) != 1) {
    return fail(EINVAL, "Cannot load CA certificate '{}': {}", files->authorities,
                take_openssl_error());
  }
  Result<void> done;
  if (files->certificate && files->key) {
    done = load_own(context, *files, credentials);
  }
  if (done && files->revoked) {
    done = load_revoked(context, *files->revoked);
  }
  if (done && files->dh) {
    done = check_dh_parameters(*files->dh);
  }
  return done;
}

Result<TlsContext::Pointer> TlsContext::load(const X509Credentials& credentials) {
  auto context = make(credentials.server);
  if (!context) {
    return pass(context);
  }
  SSL_CTX* const raw = (*context)->get();
  auto loaded = load_x509(raw, credentials);
  if (!loaded) {
    return pass(loaded);
  }
  const int verify = SSL_VERIFY_PEER | (credentials.server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
  SSL_CTX_set_verify(raw, credentials.verify_peer ? verify : SSL_VERIFY_NONE, nullptr);
  // An authority in the middle may be the last one that is trusted.
  X509_STORE_set_flags(SSL_CTX_get_cert_store(raw), X509_V_FLAG_PARTIAL_CHAIN);
  SSL_CTX_set_dh_auto(raw, 1);
  (*context)->certificates_ = true;
  (*context)->verifies_names_ = !credentials.server && credentials.verify_peer;
  return context;
}

Result<void> TlsContext::set_dh_parameters(const std::optional<std::string>& path) const {
  Key parameters(nullptr, &EVP_PKEY_free);
  if (path) {
    auto read = read_dh_parameters(*path);
    if (!read) {
      return pass(read);
    }
    parameters = std::move(*read);
  } else {
    // RFC 7919. What OpenSSL would choose is shorter than what others accept.
    parameters = named_group();
  }
  if (parameters == nullptr || SSL_CTX_set0_tmp_dh_pkey(get(), parameters.get()) != 1) {
    return fail(EINVAL, "Cannot set up TLS: {}", take_openssl_error());
  }
  static_cast<void>(parameters.release());
  return {};
}

Result<TlsContext::Pointer> TlsContext::load(PskCredentials credentials) {
  auto context = make(credentials.server);
  if (!context) {
    return pass(context);
  }
  SSL_CTX* const raw = (*context)->get();
  if (!credentials.server) {
    // Should the server come with a certificate in place of the key, then nobody vouches for it.
    SSL_CTX_set_verify(raw, SSL_VERIFY_PEER, nullptr);
  }
  if (SSL_CTX_set_cipher_list(raw, "kECDHEPSK:kDHEPSK:kPSK:!eNULL") != 1) {
    return fail(ENOTSUP, "Cannot set up TLS: {}", take_openssl_error());
  }
  if (auto done = (*context)->set_dh_parameters(credentials.dh_parameters); !done) {
    return pass(done);
  }
  SSL_CTX_set_app_data(raw, context->get());
  if (credentials.server) {
    SSL_CTX_set_psk_server_callback(raw, &give_server_key);
  } else {
    SSL_CTX_set_psk_client_callback(raw, &give_client_key);
  }
  (*context)->psk_ = std::move(credentials);
  return context;
}

Result<TlsContext::Pointer> TlsContext::load(const AnonymousCredentials& credentials) {
  auto context = make(credentials.server);
  if (!context) {
    return pass(context);
  }
  SSL_CTX* const raw = (*context)->get();
  // Level 0 admits ciphers that authenticate nobody; none of these here is weak otherwise.
  if (SSL_CTX_set_max_proto_version(raw, TLS1_2_VERSION) != 1 ||
      SSL_CTX_set_cipher_list(raw, "aNULL+AESGCM:aNULL+AES:@SECLEVEL=0") != 1) {
    return fail(ENOTSUP, "Cannot set up TLS: {}", take_openssl_error());
  }
  if (auto done = (*context)->set_dh_parameters(credentials.dh_parameters); !done) {
    return pass(done);
  }
  return context;
}

Result<std::unique_ptr<io::TlsSession>> TlsContext::start(
    const std::optional<std::string>& host) const {
  return OpensslSession::make(shared_from_this(), host);
}

unsigned TlsContext::give_server_key(SSL* ssl, const char* user, unsigned char* key,
                                     unsigned room) {
  const auto* context = static_cast<TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  return user == nullptr ? 0 : context->give_key(user, key, room);
}

unsigned TlsContext::give_client_key(SSL* ssl, const char*, char* user, unsigned user_room,
                                     unsigned char* key, unsigned room) {
  const auto* context = static_cast<TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  const std::string& name = context->psk_.user;
  if (name.size() >= user_room) {
    return 0;
  }
  std::memcpy(user, name.c_str(), name.size() + 1);
  return context->give_key(name, key, room);
}

unsigned TlsContext::give_key(const std::string& user, unsigned char* key, unsigned room) const {
  auto found = psk_.find_key(user);
  unsigned length = 0;
  if (found && found->size() <= room) {
    length = static_cast<unsigned>(found->size());
    std::memcpy(key, found->data(), length);
  }
  if (found) {
    wipe(*found);
  }
  return length;
}

}  // namespace cairn::crypto
