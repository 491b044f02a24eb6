// A file is looked at again for each client, rather than watched: a client that comes after a
// change meets the new rules for certain, and a file that can not be read any more lets nobody in.
#include "objects/authz.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "io/fd.h"
#include "objects/property.h"
#include "objects/types.h"
#include "schema/json_stream.h"
#include "schema/visit_qom.h"

namespace cairn::objects {

namespace {

using Policy = schema::QAuthZListPolicy;

constexpr size_t kMostListBytes = size_t{1} << 20;

Result<void> verdict(bool allowed, std::string_view identity) {
  if (!allowed) {
    return fail(EACCES, "'{}' is not authorized", identity);
  }
  return {};
}

Result<std::string> read_all(int fd, const std::string& path) {
  std::string content;
  std::array<char, 4096> buffer{};
  ssize_t count = 1;
  while (count != 0) {
    count = read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno != EINTR) {
      return fail_errno(errno, "Unable to read '{}'", path);
    }
    content.append(buffer.data(), count > 0 ? static_cast<size_t>(count) : 0);
    if (content.size() > kMostListBytes) {
      return fail(EFBIG, "Unable to read '{}': it has over {} bytes", path, kMostListBytes);
    }
  }
  return content;
}

}  // namespace

const Type Authorizer::kType = {
    .name = "authz", .parent = &kObjectType, .abstract = true, .implements = &kUserCreatableType};

bool AuthzRules::allows(std::string_view identity) const {
  const std::string name(identity);
  for (const schema::QAuthZListRule& rule : rules) {
    const bool glob = rule.format == schema::QAuthZListFormat::kGlob;
    if (glob ? fnmatch(rule.match.c_str(), name.c_str(), 0) == 0 : rule.match == name) {
      return rule.policy == Policy::kAllow;
    }
  }
  return policy == Policy::kAllow;
}

const Property AuthzList::kProperties[] = {
    {.name = "policy",
     .type = "QAuthZListPolicy",
     .get =
         [](const Object& object) {
           return schema::to_json(static_cast<const AuthzList&>(object).list_.policy);
         },
     .set = [](Object& object, std::string_view name,
               const schema::JsonValue& value) -> Result<void> {
       auto policy = decode_property<Policy>(name, value);
       if (!policy) {
         return pass(policy);
       }
       static_cast<AuthzList&>(object).list_.policy = *policy;
       return {};
     }},
    {.name = "rules",
     .type = "QAuthZListRule",
     .get =
         [](const Object& object) {
           return schema::to_json(static_cast<const AuthzList&>(object).list_.rules);
         },
     .set = [](Object& object, std::string_view name,
               const schema::JsonValue& value) -> Result<void> {
       auto rules = decode_property<std::vector<schema::QAuthZListRule>>(name, value);
       if (!rules) {
         return pass(rules);
       }
       static_cast<AuthzList&>(object).list_.rules = std::move(*rules);
       return {};
     }},
};
const Type AuthzList::kType = {.name = "authz-list",
                               .parent = &Authorizer::kType,
                               .properties = kProperties,
                               .option = "authz-list"};

AuthzList::AuthzList(std::string id, const schema::AuthZListProperties& options)
    : Authorizer(kType, std::move(id)),
      list_{.policy = options.policy.value_or(Policy::kDeny), .rules = {}} {
  if (options.rules) {
    list_.rules = *options.rules;
  }
}

Result<void> AuthzList::check(std::string_view identity) {
  return verdict(list_.allows(identity), identity);
}

const Property AuthzListFile::kProperties[] = {
    field<&AuthzListFile::filename_>("filename", "string"),
    field<&AuthzListFile::refresh_>("refresh", "bool"),
};
// The type's name is not quite the one that it is made by, with the peer, too.
const Type AuthzListFile::kType = {.name = "authz-list-file",
                                   .parent = &Authorizer::kType,
                                   .properties = kProperties,
                                   .option = "authz-listfile"};

AuthzListFile::AuthzListFile(std::string id, const schema::AuthZListFileProperties& options)
    : Authorizer(kType, std::move(id)),
      filename_(options.filename),
      refresh_(options.refresh.value_or(true)) {}

Result<std::shared_ptr<Object>> AuthzListFile::make(
    std::string id, const schema::AuthZListFileProperties& options) {
  auto list = std::make_shared<AuthzListFile>(std::move(id), options);
  auto loaded = list->load();
  if (!loaded) {
    return pass(loaded);
  }
  return list;
}

Result<void> AuthzListFile::load() {
  const io::Fd fd(open(filename_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() || fstat(fd.get(), &seen_) != 0) {
    return fail_errno(errno, "Unable to read '{}'", filename_);
  }
  auto text = read_all(fd.get(), filename_);
  if (!text) {
    return pass(text);
  }
  auto value = schema::parse_json(*text);
  if (!value) {
    return pass(value, "Unable to parse '" + filename_ + "': ");
  }
  auto options = schema::decode<schema::AuthZListProperties>(*value);
  if (!options) {
    return pass(options, "Unable to parse '" + filename_ + "': ");
  }
  list_.policy = options->policy.value_or(Policy::kDeny);
  list_.rules = options->rules.value_or(std::vector<schema::QAuthZListRule>());
  return {};
}

bool AuthzListFile::has_changed() const {
  struct stat now{};
  return stat(filename_.c_str(), &now) != 0 || now.st_dev != seen_.st_dev ||
         now.st_ino != seen_.st_ino || now.st_size != seen_.st_size ||
         now.st_mtim.tv_sec != seen_.st_mtim.tv_sec ||
         now.st_mtim.tv_nsec != seen_.st_mtim.tv_nsec ||
         now.st_ctim.tv_sec != seen_.st_ctim.tv_sec || now.st_ctim.tv_nsec != seen_.st_ctim.tv_nsec;
}

Result<void> AuthzListFile::check(std::string_view identity) {
  if (refresh_ && has_changed()) {
    auto loaded = load();
    if (!loaded) {
      // Whatever was read so far counts no more; the next client tries again.
      seen_ = {};
      return loaded;
    }
  }
  return verdict(list_.allows(identity), identity);
}

const Property AuthzSimple::kProperties[] = {
    field<&AuthzSimple::identity_>("identity", "string"),
};
const Type AuthzSimple::kType = {.name = "authz-simple",
                                 .parent = &Authorizer::kType,
                                 .properties = kProperties,
                                 .option = "authz-simple"};

AuthzSimple::AuthzSimple(std::string id, const schema::AuthZSimpleProperties& options)
    : Authorizer(kType, std::move(id)), identity_(options.identity) {}

Result<void> AuthzSimple::check(std::string_view identity) {
  return verdict(identity == identity_, identity);
}

}  // namespace cairn::objects
