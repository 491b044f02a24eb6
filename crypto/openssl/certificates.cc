#include "crypto/openssl/certificates.h"

#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

namespace cairn::crypto {

namespace {

std::string_view name_of(CertificateRole role) {
  switch (role) {
    case CertificateRole::kAuthority:
      return "CA";
    case CertificateRole::kServer:
      return "server";
    case CertificateRole::kClient:
      break;
  }
  return "client";
}

Result<void> check_times(X509* certificate, const std::string& path, CertificateRole role) {
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
    return fail(EINVAL, "The {} certificate {} has expired", name_of(role), path);
  }
  if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) {
    return fail(EINVAL, "The {} certificate {} is not yet active", name_of(role), path);
  }
  return {};
}

Result<void> check_constraints(X509* certificate, const std::string& path, CertificateRole role) {
  const uint32_t flags = X509_get_extension_flags(certificate);
  const bool authority = (flags & EXFLAG_CA) != 0;
  if (role != CertificateRole::kAuthority) {
    if (authority) {
      return fail(EINVAL,
                  "The certificate {} basic constraints show a CA, but we need one for a {}", path,
                  name_of(role));
    }
    return {};
  }
  if ((flags & EXFLAG_BCONS) == 0) {
    return fail(EINVAL, "The certificate {} is missing basic constraints for a CA", path);
  }
  if (!authority) {
    return fail(EINVAL, "The certificate {} basic constraints do not show a CA", path);
  }
  return {};
}

bool is_critical(X509* certificate, int extension) {
  const int at = X509_get_ext_by_NID(certificate, extension, -1);
  return at >= 0 && X509_EXTENSION_get_critical(X509_get_ext(certificate, at)) == 1;
}

// What is not critical is advice, and not followed, as in the field.
Result<void> check_usage(X509* certificate, const std::string& path, CertificateRole role) {
  const bool stated = (X509_get_extension_flags(certificate) & EXFLAG_KUSAGE) != 0;
  if (!stated || !is_critical(certificate, NID_key_usage)) {
    return {};
  }
  const uint32_t usage = X509_get_key_usage(certificate);
  if (role == CertificateRole::kAuthority && (usage & KU_KEY_CERT_SIGN) == 0) {
    return fail(EINVAL, "Certificate {} usage does not permit certificate signing", path);
  }
  if (role != CertificateRole::kAuthority && (usage & KU_DIGITAL_SIGNATURE) == 0) {
    return fail(EINVAL, "Certificate {} usage does not permit digital signature", path);
  }
  return {};
}

Result<void> check_purpose(X509* certificate, const std::string& path, CertificateRole role) {
  const bool stated = (X509_get_extension_flags(certificate) & EXFLAG_XKUSAGE) != 0;
  if (role == CertificateRole::kAuthority || !stated ||
      !is_critical(certificate, NID_ext_key_usage)) {
    return {};
  }
  const uint32_t wanted = role == CertificateRole::kServer ? XKU_SSL_SERVER : XKU_SSL_CLIENT;
  if ((X509_get_extended_key_usage(certificate) & (wanted | XKU_ANYEKU)) == 0) {
    return fail(EINVAL, "Certificate {} purpose does not allow use with a TLS {}", path,
                name_of(role));
  }
  return {};
}

}  // namespace

std::string take_openssl_error() {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  std::string text = reason ? reason : "unknown error";
  ERR_clear_error();
  return text;
}

Result<std::vector<Certificate>> read_certificates(const std::string& path, CertificateRole role) {
  const auto context = [&] {
    return role == CertificateRole::kAuthority
               ? fmt::format("Unable to import CA certificate list {}", path)
               : fmt::format("Unable to import {} certificate {}", name_of(role), path);
  };
  const std::unique_ptr<BIO, decltype(&BIO_free)> file(BIO_new_file(path.c_str(), "r"), &BIO_free);
  std::vector<Certificate> certificates;
  if (file) {
    while (X509* one = PEM_read_bio_X509(file.get(), nullptr, nullptr, nullptr)) {
      certificates.emplace_back(one);
    }
  }
  // The end of the file is told as an error, too.
  const std::string reason = take_openssl_error();
  if (certificates.empty()) {
    return role == CertificateRole::kAuthority ? fail(EINVAL, "{}", context())
                                               : fail(EINVAL, "{}: {}", context(), reason);
  }
  return certificates;
}

std::string distinguished_name(X509* certificate) {
  // Letters beyond ASCII stay as they are, in UTF-8.
  constexpr unsigned long kFlags = ASN1_STRFLGS_RFC2253 & ~ASN1_STRFLGS_ESC_MSB;
  const X509_NAME* name = X509_get_subject_name(certificate);
  std::string text;
  int set = -1;
  for (int i = 0; i < X509_NAME_entry_count(name); ++i) {
    const X509_NAME_ENTRY* entry = X509_NAME_get_entry(name, i);
    const ASN1_OBJECT* type = X509_NAME_ENTRY_get_object(entry);
    const int nid = OBJ_obj2nid(type);
    std::array<char, 80> number;
    const char* key = OBJ_nid2sn(nid);
    if (nid == NID_undef) {
      OBJ_obj2txt(number.data(), number.size(), type, 1);
      key = number.data();
    }
    const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), &BIO_free);
    if (out == nullptr ||
        ASN1_STRING_print_ex(out.get(), X509_NAME_ENTRY_get_data(entry), kFlags) < 0) {
      return {};  // no name is the name of nobody
    }
    char* value = nullptr;
    const long length = BIO_get_mem_data(out.get(), &value);
    if (i != 0) {
      text += X509_NAME_ENTRY_set(entry) == set ? '+' : ',';
    }
    set = X509_NAME_ENTRY_set(entry);
    text += nid == NID_pkcs9_emailAddress ? "EMAIL" : key;
    text += '=';
    text.append(value, static_cast<std::size_t>(length));
  }
  return text;
}

Result<void> check_certificate(X509* certificate, const std::string& path, CertificateRole role) {
  for (const auto check : {check_times, check_constraints, check_usage, check_purpose}) {
    if (auto checked = check(certificate, path, role); !checked) {
      return checked;
    }
  }
  return {};
}

Result<void> verify_certificate(const std::vector<Certificate>& chain, const std::string& path,
                                const std::vector<Certificate>& authorities,
                                const std::string& authorities_path) {
  const std::unique_ptr<X509_STORE, decltype(&X509_STORE_free)> store(X509_STORE_new(),
                                                                      &X509_STORE_free);
  const std::unique_ptr<X509_STORE_CTX, decltype(&X509_STORE_CTX_free)> context(
      X509_STORE_CTX_new(), &X509_STORE_CTX_free);
  const auto free_stack = [](STACK_OF(X509) * stack) { sk_X509_free(stack); };
  const std::unique_ptr<STACK_OF(X509), decltype(free_stack)> between(sk_X509_new_null(),
                                                                      free_stack);
  if (!store || !context || !between) {
    return fail(ENOMEM, "Cannot verify certificate {}", path);
  }
  for (const Certificate& authority : authorities) {
    X509_STORE_add_cert(store.get(), authority.get());
  }
  for (size_t i = 1; i < chain.size(); ++i) {
    sk_X509_push(between.get(), chain[i].get());
  }
  // An authority in the middle may be the last one that is trusted.
  X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN);
  if (X509_STORE_CTX_init(context.get(), store.get(), chain[0].get(), between.get()) == 1 &&
      X509_verify_cert(context.get()) == 1) {
    return {};
  }
  const int code = X509_STORE_CTX_get_error(context.get());
  const bool unknown = code == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
                       code == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
                       code == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
                       code == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN ||
                       code == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE;
  ERR_clear_error();
  return fail(
      EINVAL, "Our own certificate {} failed validation against {}: {}", path, authorities_path,
      unknown ? "The certificate hasn't got a known issuer" : X509_verify_cert_error_string(code));
}

}  // namespace cairn::crypto
