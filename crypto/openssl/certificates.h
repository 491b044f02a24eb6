// X.509 certificates: reading them from PEM files, and whether they are fit for what they are to be
// used for (RFC 5280).
//
// Reasons that scripts match are in the words of the field.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <openssl/x509.h>

#include "base/result.h"

namespace cairn::crypto {

struct X509Free {
  void operator()(X509* certificate) const { X509_free(certificate); }
};
using Certificate = std::unique_ptr<X509, X509Free>;

enum class CertificateRole { kAuthority, kServer, kClient };

// All certificates of a PEM file, at least one.
[[nodiscard]] Result<std::vector<Certificate>> read_certificates(const std::string& path,
                                                                 CertificateRole role);

// Whether it is valid now and may be used in that role. `path` is for messages.
[[nodiscard]] Result<void> check_certificate(X509* certificate, const std::string& path,
                                             CertificateRole role);

// Whether the authorities vouch for it; those above it but the first may stand in its own file.
[[nodiscard]] Result<void> verify_certificate(const std::vector<Certificate>& chain,
                                              const std::string& path,
                                              const std::vector<Certificate>& authorities,
                                              const std::string& authorities_path);

// The name of its subject as text, the parts in the certificate's order: "C=GB,O=Org,CN=alice". As
// the field spells it, which is what authorizations compare with.
[[nodiscard]] std::string distinguished_name(X509* certificate);

// What OpenSSL complained about last, and forgets about it.
[[nodiscard]] std::string take_openssl_error();

}  // namespace cairn::crypto
