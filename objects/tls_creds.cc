#include "objects/tls_creds.h"

#include <cerrno>
#include <fstream>
#include <string_view>
#include <utility>

#include "crypto/cipher.h"
#include "objects/property.h"
#include "objects/registry.h"
#include "objects/secret.h"
#include "objects/types.h"
#include "schema/json_stream.h"
#include "schema/visit_qom.h"

namespace cairn::objects {

namespace {

using Endpoint = schema::QCryptoTLSCredsEndpoint;

constexpr const char* kKeyFile = "keys.psk";
constexpr std::string_view kDefaultUser = "qemu";

std::unexpected<Error> fail_no_dir() { return fail(EINVAL, "Missing 'dir' property value"); }

// Two hexadecimal digits a byte.
Result<std::string> decode_key(std::string_view digits, const std::string& path) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string key;
  bool good = !digits.empty() && digits.size() % 2 == 0;
  for (size_t i = 0; good && i < digits.size(); i += 2) {
    const auto value = [&](char c) {
      return kDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c);
    };
    const size_t high = value(digits[i]);
    const size_t low = value(digits[i + 1]);
    good = high != kDigits.npos && low != kDigits.npos;
    key += static_cast<char>(high << 4 | low);
  }
  if (!good) {
    return fail(EINVAL, "A key in PSK file {} is not in hexadecimal", path);
  }
  return key;
}

// The key of `user`.
Result<std::string> key_of(const std::string& path, const std::string& user) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(user + ":")) {
      if (line.ends_with('\r')) {
        line.pop_back();
      }
      auto key = decode_key(std::string_view(line).substr(user.size() + 1), path);
      crypto::wipe(line);
      return key;
    }
  }
  return fail(ENOENT, "Username {} not found in PSK file {}", user, path);
}

// A server may bring its own; those that can not be used are an error.
Result<std::optional<std::string>> find_dh_parameters(const schema::TlsCredsProperties& options) {
  if (!options.dir || options.endpoint.value_or(Endpoint::kClient) != Endpoint::kServer) {
    return std::optional<std::string>();
  }
  return crypto::find_credential(*options.dir, "dh-params.pem", false);
}

}  // namespace

const Property TlsCreds::kProperties[] = {
    field<&TlsCreds::endpoint_>("endpoint", "QCryptoTLSCredsEndpoint"),
    field<&TlsCreds::dir_>("dir", "string"),
    field<&TlsCreds::verify_peer_>("verify-peer", "bool"),
    field<&TlsCreds::priority_>("priority", "string"),
};
const Type TlsCreds::kType = {.name = "tls-creds",
                              .parent = &kObjectType,
                              .abstract = true,
                              .properties = kProperties,
                              .implements = &kUserCreatableType};

TlsCreds::TlsCreds(const Type& type, std::string id, const schema::TlsCredsProperties& options)
    : Object(type, std::move(id)),
      endpoint_(options.endpoint.value_or(Endpoint::kClient)),
      dir_(options.dir.value_or("")),
      verify_peer_(options.verify_peer.value_or(true)),
      priority_(options.priority.value_or("")) {}

const Property TlsCredsAnon::kProperties[] = {
    constant_field<&TlsCredsAnon::loaded_>("loaded", "bool"),
};
const Type TlsCredsAnon::kType = {.name = "tls-creds-anon",
                                  .parent = &TlsCreds::kType,
                                  .properties = kProperties,
                                  .option = "tls-creds-anon"};

TlsCredsAnon::TlsCredsAnon(std::string id, const schema::TlsCredsAnonProperties& options)
    : TlsCreds(kType, std::move(id), options) {}

Result<std::shared_ptr<Object>> TlsCredsAnon::make(std::string id,
                                                   const schema::TlsCredsAnonProperties& options) {
  auto creds = std::make_shared<TlsCredsAnon>(std::move(id), options);
  auto parameters = find_dh_parameters(options);
  if (!parameters) {
    return pass(parameters);
  }
  auto context = crypto::load_credentials(crypto::AnonymousCredentials{
      .server = creds->for_server(), .dh_parameters = std::move(*parameters)});
  if (!context) {
    return pass(context);
  }
  creds->context_ = std::move(*context);
  return creds;
}

const Property TlsCredsPsk::kProperties[] = {
    field<&TlsCredsPsk::username_>("username", "string"),
    constant_field<&TlsCredsPsk::loaded_>("loaded", "bool"),
};
const Type TlsCredsPsk::kType = {.name = "tls-creds-psk",
                                 .parent = &TlsCreds::kType,
                                 .properties = kProperties,
                                 .option = "tls-creds-psk"};

TlsCredsPsk::TlsCredsPsk(std::string id, const schema::TlsCredsPskProperties& options)
    : TlsCreds(kType, std::move(id), options), username_(options.username.value_or("")) {}

Result<std::shared_ptr<Object>> TlsCredsPsk::make(std::string id,
                                                  const schema::TlsCredsPskProperties& options) {
  if (!options.dir) {
    return fail_no_dir();
  }
  auto creds = std::make_shared<TlsCredsPsk>(std::move(id), options);
  auto file = crypto::find_credential(*options.dir, kKeyFile, true);
  if (!file) {
    return pass(file);
  }
  crypto::PskCredentials psk{.server = creds->for_server(),
                             .user = options.username.value_or(std::string(kDefaultUser)),
                             .find_key = {},
                             .dh_parameters = {}};
  // The file as it is when a client comes.
  psk.find_key = [path = **file](const std::string& user) { return key_of(path, user); };
  if (psk.server) {
    if (options.username) {
      return fail(EINVAL, "username should not be set when endpoint=server");
    }
    auto parameters = find_dh_parameters(options);
    if (!parameters) {
      return pass(parameters);
    }
    psk.dh_parameters = std::move(*parameters);
  } else {
    auto key = psk.find_key(psk.user);
    if (!key) {
      return pass(key);
    }
    crypto::wipe(*key);
  }
  auto context = crypto::load_credentials(std::move(psk));
  if (!context) {
    return pass(context);
  }
  creds->context_ = std::move(*context);
  return creds;
}

Result<std::string> TlsCredsPsk::find_key(const std::string& user) const {
  return key_of(dir() + "/" + kKeyFile, user);
}

const Property TlsCredsX509::kProperties[] = {
    field<&TlsCredsX509::sanity_check_>("sanity-check", "bool"),
    field<&TlsCredsX509::passwordid_>("passwordid", "string"),
    constant_field<&TlsCredsX509::loaded_>("loaded", "bool"),
};
const Type TlsCredsX509::kType = {.name = "tls-creds-x509",
                                  .parent = &TlsCreds::kType,
                                  .properties = kProperties,
                                  .option = "tls-creds-x509"};

TlsCredsX509::TlsCredsX509(std::string id, const schema::TlsCredsX509Properties& options)
    : TlsCreds(kType, std::move(id), options),
      sanity_check_(options.sanity_check.value_or(true)),
      passwordid_(options.passwordid.value_or("")) {}

Result<std::shared_ptr<Object>> TlsCredsX509::make(std::string id,
                                                   const schema::TlsCredsX509Properties& options,
                                                   const Registry& registry) {
  if (!options.dir) {
    return fail_no_dir();
  }
  crypto::X509Credentials credentials{
      .dir = *options.dir,
      .server = options.endpoint.value_or(Endpoint::kClient) == Endpoint::kServer,
      .verify_peer = options.verify_peer.value_or(true),
      .sanity_check = options.sanity_check.value_or(true),
      .password = {}};
  if (options.passwordid) {
    auto password = find_secret(registry, *options.passwordid);
    if (!password) {
      return pass(password);
    }
    credentials.password = std::move(*password);
  }
  auto context = crypto::load_credentials(credentials);
  if (credentials.password) {
    crypto::wipe(*credentials.password);
  }
  if (!context) {
    return pass(context);
  }
  auto creds = std::make_shared<TlsCredsX509>(std::move(id), options);
  creds->context_ = std::move(*context);
  return creds;
}

namespace {

// Credentials without an id.
Result<std::shared_ptr<Object>> make_described(const Registry& registry, const std::string& json) {
  auto document = schema::parse_json(json);
  if (!document) {
    return pass(document, "TLS credentials: ");
  }
  schema::JsonObject* members = document->as_object();
  if (members == nullptr) {
    return fail(EINVAL, "TLS credentials: a JSON object is expected");
  }
  static_cast<void>(members->take("id"));
  members->add("id", std::string());
  const auto options = schema::decode<schema::ObjectOptions>(*document);
  if (!options) {
    return std::unexpected(options.error());
  }
  const bool suitable = std::holds_alternative<schema::TlsCredsAnonProperties>(options->branch) ||
                        std::holds_alternative<schema::TlsCredsPskProperties>(options->branch) ||
                        std::holds_alternative<schema::TlsCredsX509Properties>(options->branch);
  return suitable ? registry.make(*options)
                  : fail(EINVAL, "What describes TLS credentials is of another type");
}

}  // namespace

Result<std::shared_ptr<const io::TlsCredentials>> find_credentials(const Registry& registry,
                                                                   const std::string& name,
                                                                   bool server) {
  std::shared_ptr<Object> object;
  if (name.starts_with("json:")) {
    auto described = make_described(registry, name.substr(5));
    if (!described) {
      return pass(described);
    }
    object = std::move(*described);
  } else {
    object = registry.find(name);
  }
  if (!object) {
    return fail(ENOENT, "No TLS credentials with id '{}'", name);
  }
  const auto creds = std::dynamic_pointer_cast<TlsCreds>(object);
  if (!creds) {
    return fail(EINVAL, "Object with id '{}' is not TLS credentials", name);
  }
  if (creds->for_server() != server) {
    return fail(EINVAL, "Expected TLS credentials for a {} endpoint", server ? "server" : "client");
  }
  return creds->context();
}

}  // namespace cairn::objects
