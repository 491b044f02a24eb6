// Authorization: who may come in, by the name that a client's credentials give it.
#pragma once

#include <sys/stat.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "objects/object.h"
#include "schema/types_qom.h"

namespace cairn::objects {

class Authorizer : public Object {
 public:
  static const Type kType;
  using Object::Object;

  // EACCES when `identity` may not come in; another error when that can not be told, which is to be
  // taken for the same.
  [[nodiscard]] virtual Result<void> check(std::string_view identity) = 0;
};

// Rules in their order, and what becomes of those whom none fits.
struct AuthzRules {
  schema::QAuthZListPolicy policy = schema::QAuthZListPolicy::kDeny;
  std::vector<schema::QAuthZListRule> rules;

  [[nodiscard]] bool allows(std::string_view identity) const;
};

class AuthzList final : public Authorizer {
 public:
  static const Type kType;
  AuthzList(std::string id, const schema::AuthZListProperties& options);
  [[nodiscard]] Result<void> check(std::string_view identity) override;

 private:
  static const Property kProperties[];
  AuthzRules list_;
};

class AuthzListFile final : public Authorizer {
 public:
  static const Type kType;
  [[nodiscard]] static Result<std::shared_ptr<Object>> make(
      std::string id, const schema::AuthZListFileProperties& options);
  AuthzListFile(std::string id, const schema::AuthZListFileProperties& options);
  [[nodiscard]] Result<void> check(std::string_view identity) override;

 private:
  static const Property kProperties[];
  [[nodiscard]] Result<void> load();
  [[nodiscard]] bool has_changed() const;

  std::string filename_;
  bool refresh_;
  AuthzRules list_;
  struct stat seen_{};  // the file as it was when it was read
};

class AuthzSimple final : public Authorizer {
 public:
  static const Type kType;
  AuthzSimple(std::string id, const schema::AuthZSimpleProperties& options);
  [[nodiscard]] Result<void> check(std::string_view identity) override;

 private:
  static const Property kProperties[];
  std::string identity_;
};

}  // namespace cairn::objects
