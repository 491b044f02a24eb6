#include "objects/registry.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <variant>

#include "base/identifier.h"
#include "objects/authz.h"
#include "objects/event_loop.h"
#include "objects/secret.h"
#include "objects/throttle_group.h"
#include "objects/tls_creds.h"

namespace cairn::objects {

namespace {

using Made = Result<std::shared_ptr<Object>>;

// Makes the object for each kind of options.
class Maker {
 public:
  Maker(const Registry& registry, const std::string& id, io::BackendKind io)
      : registry_(registry), id_(id), io_(io) {}

  Made operator()(const schema::AuthZListProperties& options) const {
    return std::make_shared<AuthzList>(id_, options);
  }
  Made operator()(const schema::AuthZListFileProperties& options) const {
    return AuthzListFile::make(id_, options);
  }
  Made operator()(const schema::AuthZSimpleProperties& options) const {
    return std::make_shared<AuthzSimple>(id_, options);
  }
  Made operator()(const schema::SecretProperties& options) const {
    return Secret::make(id_, options, registry_);
  }
  Made operator()(const schema::SecretKeyringProperties& options) const {
    return KeyringSecret::make(id_, options, registry_);
  }
  Made operator()(const schema::ThrottleGroupProperties& options) const {
    return ThrottleGroup::make(id_, options);
  }
  Made operator()(const schema::IothreadProperties& options) const {
    return Iothread::make(id_, options, io_);
  }
  Made operator()(const schema::MainLoopProperties& options) const {
    for (const auto& other : registry_.all()) {
      if (&other->type() == &MainLoop::kType) {
        return fail(EBUSY, "only one main-loop instance allowed");
      }
    }
    return MainLoop::make(id_, options);
  }
  Made operator()(const schema::TlsCredsAnonProperties& options) const {
    return TlsCredsAnon::make(id_, options);
  }
  Made operator()(const schema::TlsCredsPskProperties& options) const {
    return TlsCredsPsk::make(id_, options);
  }
  Made operator()(const schema::TlsCredsX509Properties& options) const {
    return TlsCredsX509::make(id_, options, registry_);
  }
  Made operator()(std::monostate) const { return fail(EINVAL, "An object has no options"); }

 private:
  const Registry& registry_;
  const std::string& id_;
  io::BackendKind io_;
};

}  // namespace

Result<void> Registry::add(const schema::ObjectOptions& options) {
  if (!is_identifier(options.id)) {
    return std::unexpected(Error(EINVAL, "Parameter 'id' expects an identifier")
                               .with_hint(std::string(kIdentifierHint)));
  }
  if (find(options.id)) {
    return fail(EEXIST, "attempt to add duplicate property '{}' to object (type 'container')",
                options.id);
  }
  auto made = make(options);
  if (!made) {
    return pass(made);
  }
  objects_.push_back(std::move(*made));
  return {};
}

Made Registry::make(const schema::ObjectOptions& options) const {
  return std::visit(Maker(*this, options.id, io_), options.branch);
}

Result<void> Registry::remove(std::string_view id) {
  const auto at = std::ranges::find(objects_, id, [](const auto& object) { return object->id(); });
  if (at == objects_.end()) {
    return fail(ENOENT, "object '{}' not found", id);
  }
  if (!(*at)->may_be_deleted()) {
    return fail(EBUSY, "object '{}' is in use, can not be deleted", id);
  }
  objects_.erase(at);
  return {};
}

std::shared_ptr<Object> Registry::find(std::string_view id) const {
  const auto at = std::ranges::find(objects_, id, [](const auto& object) { return object->id(); });
  return at == objects_.end() ? nullptr : *at;
}

}  // namespace cairn::objects
