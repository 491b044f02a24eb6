#include "objects/types.h"

#include <algorithm>

#include "objects/authz.h"
#include "objects/event_loop.h"
#include "objects/secret.h"
#include "objects/throttle_group.h"
#include "objects/tls_creds.h"

namespace cairn::objects {

namespace {

const Property kObjectProperties[] = {
    {.name = "type", .type = "string", .get = [](const Object& object) {
       return schema::JsonValue(object.type().name);
     }}};

}  // namespace

const Type kObjectType = {.name = "object", .properties = kObjectProperties};
const Type kContainerType = {.name = "container", .parent = &kObjectType};
const Type kInterfaceType = {.name = "interface", .abstract = true, .interface = true};
const Type kUserCreatableType = {
    .name = "user-creatable", .parent = &kInterfaceType, .abstract = true, .interface = true};

bool Type::is_a(std::string_view wanted) const {
  for (const Type* type = this; type; type = type->parent) {
    if (type->name == wanted || (type->implements && type->implements->is_a(wanted))) {
      return true;
    }
  }
  return false;
}

const Property* Type::find_property(std::string_view wanted) const {
  for (const Type* type = this; type; type = type->parent) {
    const auto at = std::ranges::find(type->properties, wanted, &Property::name);
    if (at != type->properties.end()) {
      return &*at;
    }
  }
  return nullptr;
}

std::span<const Type* const> all_types() {
  static const Type* const kTypes[] = {
      &kObjectType,         &kContainerType,       &kInterfaceType,       &kUserCreatableType,
      &Authorizer::kType,   &AuthzList::kType,     &AuthzListFile::kType, &AuthzSimple::kType,
      &EventLoop::kType,    &Iothread::kType,      &MainLoop::kType,      &SecretCommon::kType,
      &Secret::kType,       &KeyringSecret::kType, &ThrottleGroup::kType, &TlsCreds::kType,
      &TlsCredsAnon::kType, &TlsCredsPsk::kType,   &TlsCredsX509::kType,
  };
  return kTypes;
}

const Type* find_type(std::string_view name) {
  const auto types = all_types();
  const auto at = std::ranges::find(types, name, [](const Type* type) { return type->name; });
  return at == types.end() ? nullptr : *at;
}

}  // namespace cairn::objects
