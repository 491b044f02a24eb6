#include "crypto/openssl/tls_session.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <span>
#include <utility>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "crypto/openssl/certificates.h"

namespace cairn::crypto {

namespace {

// A BIO whose two ends are a TlsWire: OpenSSL reads from `incoming` and writes to `outgoing`.

io::TlsWire& wire_of(BIO* bio) { return *static_cast<io::TlsWire*>(BIO_get_data(bio)); }

int read_wire(BIO* bio, char* to, int length) {
  BIO_clear_retry_flags(bio);
  std::span<const std::byte>& incoming = wire_of(bio).incoming;
  if (incoming.empty()) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const std::size_t count = std::min(incoming.size(), static_cast<std::size_t>(length));
  std::memcpy(to, incoming.data(), count);
  incoming = incoming.subspan(count);
  return static_cast<int>(count);
}

int write_wire(BIO* bio, const char* from, int length) {
  BIO_clear_retry_flags(bio);
  const auto* bytes = reinterpret_cast<const std::byte*>(from);
  std::vector<std::byte>& outgoing = wire_of(bio).outgoing;
  outgoing.insert(outgoing.end(), bytes, bytes + length);
  return length;
}

long control_wire(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

// Made once, when it is first used, and kept.
BIO_METHOD* wire_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "wire");
    if (made != nullptr) {
      BIO_meth_set_read(made, &read_wire);
      BIO_meth_set_write(made, &write_wire);
      BIO_meth_set_ctrl(made, &control_wire);
    }
    return made;
  }();
  return method;
}

// What concerns the credentials of the two: alerts that tell what the peer thinks of ours (RFC
// 8446, 6.2), and what we find.
std::string_view words_of(int reason, bool certificates) {
  switch (reason) {
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
      return "The peer finds our certificate bad";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
      return "The peer says that our certificate has been revoked";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
      return "The peer says that our certificate has expired";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
      return "The peer does not accept our certificate";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
      return "The peer does not know the issuer of our certificate";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
      return "The peer wants a certificate, and we have none";
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
      return "The peer denies us access";
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
      return "The peer and we have no kind of credentials in common";
    case SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER:
      return certificates ? "" : "The peer has another key than we have";
    case SSL_R_PSK_IDENTITY_NOT_FOUND:
    case SSL_R_TLSV1_ALERT_UNKNOWN_PSK_IDENTITY:
      return "There is no key for that user";
    case SSL_R_BINDER_DOES_NOT_VERIFY:
    case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
    case SSL_R_SSLV3_ALERT_BAD_RECORD_MAC:
      return "The peer has another key than we have";
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
      return "The peer wants another version of TLS";
    default:
      return {};
  }
}

}  // namespace

std::string verification_failure(long code, const std::string& host) {
  switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return "The certificate has expired";
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return "The certificate is not yet activated";
    case X509_V_ERR_CERT_REVOKED:
      return "The certificate has been revoked";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return fmt::format("Certificate does not match the hostname {}", host);
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return "The certificate hasn't got a known issuer";
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_CA_MD_TOO_WEAK:
      return "The certificate uses an insecure algorithm";
    default:
      return fmt::format("The certificate is not trusted: {}", X509_verify_cert_error_string(code));
  }
}

Result<std::unique_ptr<io::TlsSession>> OpensslSession::make(
    std::shared_ptr<const TlsContext> context, const std::optional<std::string>& host) {
  SSL_CTX* const raw = context->get();
  const bool server = context->for_server();
  const bool named = !server && context->verifies_names();
  if (named && !host) {
    return fail(EINVAL, "No hostname for certificate validation");
  }
  SSL* const ssl = SSL_new(raw);
  BIO_METHOD* const method = wire_method();
  BIO* const bio = ssl != nullptr && method != nullptr ? BIO_new(method) : nullptr;
  if (bio == nullptr) {
    SSL_free(ssl);
    return fail(ENOMEM, "Cannot set up TLS: {}", take_openssl_error());
  }
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
  std::unique_ptr<OpensslSession> session(new OpensslSession(std::move(context), ssl, bio));
  if (server) {
    SSL_set_accept_state(ssl);
    return session;
  }
  SSL_set_connect_state(ssl);
  if (host) {
    session->host_ = *host;
    // One of the two fits, by whether it is an address.
    X509_VERIFY_PARAM* const wanted = SSL_get0_param(ssl);
    const bool address =
        named && X509_VERIFY_PARAM_set1_ip_asc(wanted, session->host_.c_str()) == 1;
    if (!address) {
      SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, session->host_.data());
    }
    if (named && !address &&
        X509_VERIFY_PARAM_set1_host(wanted, session->host_.data(), session->host_.size()) != 1) {
      return fail(EINVAL, "'{}' is no hostname for certificate validation", session->host_);
    }
    ERR_clear_error();
  }
  return session;
}

void OpensslSession::use(io::TlsWire& wire) {
  // Of what other sessions left behind nothing may count here.
  ERR_clear_error();
  BIO_set_data(bio_, &wire);
}

// What went wrong in a call that returned `rc`.
std::unexpected<Error> OpensslSession::failure(int rc) const {
  const int kind = SSL_get_error(ssl_.get(), rc);
  const auto error = ERR_peek_error();
  const long verified = SSL_get_verify_result(ssl_.get());
  const int reason = ERR_GET_REASON(error);
  if (verified != X509_V_OK && reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    ERR_clear_error();
    return fail(EACCES, "{}", verification_failure(verified, host_));
  }
  if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
    ERR_clear_error();
    return fail(EACCES, "No certificate was found.");
  }
  const std::string_view words = words_of(reason, context_->uses_certificates());
  // After the handshake only what the peer says is about credentials: since version 1.3 of TLS it
  // may judge them as late as that.
  const bool alert = reason >= SSL_AD_REASON_OFFSET;
  if (!words.empty() && (alert || SSL_is_init_finished(ssl_.get()) == 0)) {
    ERR_clear_error();
    return fail(EACCES, "{}", words);
  }
  if (error == 0 || kind == SSL_ERROR_SYSCALL) {
    ERR_clear_error();
    return fail(ECONNRESET, "The TLS connection was non-properly terminated.");
  }
  return fail(EPROTO, "{}", take_openssl_error());
}

Result<bool> OpensslSession::handshake(io::TlsWire& wire) {
  use(wire);
  const int rc = SSL_do_handshake(ssl_.get());
  if (rc == 1) {
    return true;
  }
  if (SSL_get_error(ssl_.get(), rc) == SSL_ERROR_WANT_READ) {
    return false;
  }
  auto error = failure(rc);
  return error;
}

Result<std::optional<std::size_t>> OpensslSession::read(io::TlsWire& wire,
                                                        std::span<std::byte> plain) {
  use(wire);
  std::size_t count = 0;
  const int rc = SSL_read_ex(ssl_.get(), plain.data(), plain.size(), &count);
  if (rc == 1) {
    return std::optional(count);
  }
  switch (SSL_get_error(ssl_.get(), rc)) {
    case SSL_ERROR_WANT_READ:
      return std::optional<std::size_t>();
    case SSL_ERROR_ZERO_RETURN:
      return std::optional(std::size_t{0});
    default:
      return failure(rc);
  }
}

Result<void> OpensslSession::write(io::TlsWire& wire, std::span<const std::byte> plain) {
  use(wire);
  std::size_t count = 0;
  const int rc = SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &count);
  if (rc == 1 && count == plain.size()) {
    return {};
  }
  return failure(rc);
}

void OpensslSession::finish(io::TlsWire& wire) {
  use(wire);
  if (SSL_is_init_finished(ssl_.get()) == 1) {
    static_cast<void>(SSL_shutdown(ssl_.get()));
  }
  ERR_clear_error();
}

std::optional<std::string> OpensslSession::peer_identity() const {
  const Certificate certificate(SSL_get1_peer_certificate(ssl_.get()));
  if (!certificate) {
    return std::nullopt;
  }
  return distinguished_name(certificate.get());
}

}  // namespace cairn::crypto
