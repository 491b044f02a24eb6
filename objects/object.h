// Object: what object-add makes, with a type and properties that can be listed, read and changed by
// name while the program runs.
//
// Types form a tree below "object"; a type has the properties of those above it. The tables are
// constant: objects/types.h lists all of them.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"
#include "schema/json.h"

namespace cairn::objects {

class Object;

struct Property {
  std::string_view name;
  std::string_view type;  // for people: "string", "int", "QCryptoSecretFormat"
  // Null for what can not be read, or not be written. `name` is for messages.
  schema::JsonValue (*get)(const Object& object) = nullptr;
  Result<void> (*set)(Object& object, std::string_view name,
                      const schema::JsonValue& value) = nullptr;
};

struct Type {
  std::string_view name;
  const Type* parent = nullptr;
  bool abstract = false;
  bool interface = false;  // what types implement, rather than what they are
  std::span<const Property> properties = {};
  const Type* implements = nullptr;  // an interface, and its parents
  // The name that object-add knows it by; empty when it makes none of them.
  std::string_view option = {};

  // This type or one above it, or an interface of one of these.
  [[nodiscard]] bool is_a(std::string_view wanted) const;
  // Its own or one of those above; null when there is none.
  [[nodiscard]] const Property* find_property(std::string_view wanted) const;
};

class Object {
 public:
  // The type outlives everything.
  Object(const Type& type, std::string id) : type_(type), id_(std::move(id)) {}
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  virtual ~Object() = default;

  [[nodiscard]] const Type& type() const { return type_; }
  [[nodiscard]] const std::string& id() const { return id_; }

  // Whether object-del may take it away. Who uses an object keeps it alive in any case; this is for
  // objects that have to be found as long as they are used.
  [[nodiscard]] virtual bool may_be_deleted() const { return true; }

 private:
  const Type& type_;
  const std::string id_;
};

}  // namespace cairn::objects
