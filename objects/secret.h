// Secrets: passwords and keys, from the command line, a file or the kernel's keyring, and encrypted
// with another secret where that is wanted.
//
// A secret is read once, when it is made; changing a property later changes what is told and not
// the secret.
#pragma once

#include <memory>
#include <string>

#include "objects/object.h"
#include "schema/types_qom.h"

namespace cairn::objects {

class Registry;

// A secret's bytes and how they were written.
class SecretCommon : public Object {
 public:
  static const Type kType;

  // The secret itself, any bytes.
  [[nodiscard]] const std::string& bytes() const { return bytes_; }
  ~SecretCommon() override;

 protected:
  SecretCommon(const Type& type, std::string id, const schema::SecretCommonProperties& options);

  // Decodes and decrypts what was read.
  [[nodiscard]] Result<void> load(std::string written, const Registry& registry);

 private:
  static const Property kProperties[];

  schema::QCryptoSecretFormat format_;
  std::string keyid_;
  std::string iv_;
  bool loaded_ = true;
  std::string bytes_;
};

class Secret final : public SecretCommon {
 public:
  static const Type kType;

  [[nodiscard]] static Result<std::shared_ptr<Object>> make(std::string id,
                                                            const schema::SecretProperties& options,
                                                            const Registry& registry);
  Secret(std::string id, const schema::SecretProperties& options);

 private:
  static const Property kProperties[];

  std::string data_;
  std::string file_;
};

class KeyringSecret final : public SecretCommon {
 public:
  static const Type kType;

  [[nodiscard]] static Result<std::shared_ptr<Object>> make(
      std::string id, const schema::SecretKeyringProperties& options, const Registry& registry);
  KeyringSecret(std::string id, const schema::SecretKeyringProperties& options);

 private:
  static const Property kProperties[];

  int32_t serial_;
};

// The bytes of the secret `id`.
[[nodiscard]] Result<std::string> find_secret(const Registry& registry, std::string_view id);

}  // namespace cairn::objects
