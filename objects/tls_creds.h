// Credentials for TLS connections, loaded and checked when they are made.
//
// Changing a property later changes what is told and not what was loaded.
#pragma once

#include <memory>
#include <string>

#include "crypto/tls_credentials.h"
#include "objects/object.h"
#include "schema/types_qom.h"

namespace cairn::objects {

class Registry;

class TlsCreds : public Object {
 public:
  static const Type kType;

  [[nodiscard]] bool for_server() const {
    return endpoint_ == schema::QCryptoTLSCredsEndpoint::kServer;
  }
  [[nodiscard]] bool verify_peer() const { return verify_peer_; }

  // What connections are made with; goes on working when the object is gone.
  [[nodiscard]] const crypto::Credentials& context() const { return context_; }

 protected:
  TlsCreds(const Type& type, std::string id, const schema::TlsCredsProperties& options);

  [[nodiscard]] const std::string& dir() const { return dir_; }

  bool loaded_ = true;
  crypto::Credentials context_;

 private:
  static const Property kProperties[];

  schema::QCryptoTLSCredsEndpoint endpoint_;
  std::string dir_;
  bool verify_peer_;
  std::string priority_;
};

class TlsCredsAnon final : public TlsCreds {
 public:
  static const Type kType;
  [[nodiscard]] static Result<std::shared_ptr<Object>> make(
      std::string id, const schema::TlsCredsAnonProperties& options);
  TlsCredsAnon(std::string id, const schema::TlsCredsAnonProperties& options);

 private:
  static const Property kProperties[];
};

class TlsCredsPsk final : public TlsCreds {
 public:
  static const Type kType;
  [[nodiscard]] static Result<std::shared_ptr<Object>> make(
      std::string id, const schema::TlsCredsPskProperties& options);
  TlsCredsPsk(std::string id, const schema::TlsCredsPskProperties& options);

  // The key of `user`, from the file as it is now.
  [[nodiscard]] Result<std::string> find_key(const std::string& user) const;

 private:
  static const Property kProperties[];
  std::string username_;
};

class TlsCredsX509 final : public TlsCreds {
 public:
  static const Type kType;
  [[nodiscard]] static Result<std::shared_ptr<Object>> make(
      std::string id, const schema::TlsCredsX509Properties& options, const Registry& registry);
  TlsCredsX509(std::string id, const schema::TlsCredsX509Properties& options);

 private:
  static const Property kProperties[];
  bool sanity_check_;
  std::string passwordid_;
};

// The credentials of an object, or those that "json:{…}" describes, which need no id and belong to
// nobody else. Fails for an object that is none, or for the other end.
[[nodiscard]] Result<std::shared_ptr<const io::TlsCredentials>> find_credentials(
    const Registry& registry, const std::string& name, bool server);

}  // namespace cairn::objects
