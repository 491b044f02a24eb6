#include "crypto/tls_context.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>

#include "crypto/certificates.h"

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

}  // namespace

Result<std::optional<std::string>> find_credential(const std::string& dir, const std::string& name,
                                                   bool required) {
  std::string path = dir + "/" + name;
  if (access(path.c_str(), R_OK) == 0) {
    return path;
  }
  if (required || errno != ENOENT) {
    return fail_errno(errno, "Unable to access credentials {}", path);
  }
  return std::optional<std::string>();
}

Result<void> check_dh_parameters(const std::string& path) {
  const File file = open_file(path);
  const Key parameters(file ? PEM_read_bio_Parameters(file.get(), nullptr) : nullptr,
                       &EVP_PKEY_free);
  if (!parameters) {
    return fail(EINVAL, "Unable to load DH parameters from {}: {}", path, take_openssl_error());
  }
  return {};
}

Result<TlsContext> TlsContext::load(const X509Credentials& credentials) {
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
  TlsContext context(SSL_CTX_new(TLS_method()));
  SSL_CTX* const raw = context.get();
  if (!raw || SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION) != 1) {
    return fail(ENOMEM, "Cannot set up TLS: {}", take_openssl_error());
  }
  if (SSL_CTX_load_verify_locations(raw, files->authorities.c_str(), nullptr) != 1) {
    return fail(EINVAL, "Cannot load CA certificate '{}': {}", files->authorities,
                take_openssl_error());
  }
  Result<void> done;
  if (files->certificate && files->key) {
    done = load_own(raw, *files, credentials);
  }
  if (done && files->revoked) {
    done = load_revoked(raw, *files->revoked);
  }
  if (done && files->dh) {
    done = check_dh_parameters(*files->dh);
  }
  if (!done) {
    return pass(done);
  }
  const int verify = SSL_VERIFY_PEER | (credentials.server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
  SSL_CTX_set_verify(raw, credentials.verify_peer ? verify : SSL_VERIFY_NONE, nullptr);
  SSL_CTX_set_dh_auto(raw, 1);
  return context;
}

}  // namespace cairn::crypto
