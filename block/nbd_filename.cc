#include "block/nbd_filename.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <iterator>
#include <optional>
#include <utility>
#include <variant>

#include "schema/json.h"
#include "schema/types_block_options.h"

namespace cairn::block {

namespace {

constexpr std::string_view kDefaultPort = "10809";
struct Scheme {
  std::string_view start;
  bool unix_socket;
  bool tls;
};
constexpr Scheme kSchemes[] = {
    {"nbd://", false, false}, {"nbd+tcp://", false, false}, {"nbd+unix://", true, false},
    {"nbds://", false, true}, {"nbds+tcp://", false, true}, {"nbds+unix://", true, true},
};

const Scheme* scheme_of(std::string_view filename) {
  const Scheme* const found = std::ranges::find_if(
      kSchemes, [filename](const Scheme& scheme) { return filename.starts_with(scheme.start); });
  return found == std::end(kSchemes) ? nullptr : found;
}

constexpr std::string_view kExportName = ":exportname=";

std::unexpected<Error> invalid_uri() { return fail(EINVAL, "No valid URL specified"); }

// Undoes the %XX of a URI; nothing when one is not complete, or is a zero byte.
std::optional<std::string> unescape(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      result += text[i];
      continue;
    }
    uint8_t value = 0;
    const std::string_view digits = text.substr(i + 1, 2);
    const auto parsed = std::from_chars(digits.begin(), digits.end(), value, 16);
    if (digits.size() != 2 || parsed.ptr != digits.end() || value == 0) {
      return std::nullopt;
    }
    result += static_cast<char>(value);
    i += 2;
  }
  return result;
}

schema::SocketAddress unix_server(std::string path) {
  schema::UnixSocketAddress address;
  address.path = std::move(path);
  schema::SocketAddress server;
  server.type = schema::SocketAddressType::kUnix;
  server.branch = std::move(address);
  return server;
}

schema::SocketAddress inet_server(std::string host, std::string port) {
  schema::InetSocketAddress address;
  address.host = std::move(host);
  address.port = std::move(port);
  schema::SocketAddress server;
  server.type = schema::SocketAddressType::kInet;
  server.branch = std::move(address);
  return server;
}

// "HOST[:PORT]", "[HOST][:PORT]"
std::optional<std::pair<std::string_view, std::string_view>> split_host(std::string_view text) {
  std::string_view host = text.substr(0, text.find(':'));
  std::string_view rest = text.substr(host.size());
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string_view::npos) {
      return std::nullopt;
    }
    host = text.substr(1, end - 1);
    rest = text.substr(end + 1);
  }
  if (host.empty() || (!rest.empty() && rest.front() != ':')) {
    return std::nullopt;
  }
  return std::pair(host, rest.empty() ? rest : rest.substr(1));
}

// The parameters that a URI of the scheme may have.
struct Parameters {
  std::optional<std::string> socket;
  std::optional<std::string> type;
  std::optional<std::string> certificates;
  std::optional<std::string> keys;
  std::optional<std::string> host;
  std::optional<std::string> verify;
};

// "?NAME=VALUE&…"; nothing when one is not known here, or is there twice.
std::optional<Parameters> split_query(std::string_view query, const Scheme& scheme) {
  Parameters found;
  const struct {
    std::string_view name;
    std::optional<std::string>& value;
    bool allowed;
  } known[] = {{"socket", found.socket, scheme.unix_socket},
               {"tls-type", found.type, scheme.tls},
               {"tls-certificates", found.certificates, scheme.tls},
               {"tls-psk-file", found.keys, scheme.tls},
               {"tls-hostname", found.host, scheme.tls},
               {"tls-verify-peer", found.verify, scheme.tls}};
  query.remove_prefix(query.empty() ? 0 : 1);
  while (!query.empty()) {
    const std::string_view part = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(part.size() + 1, query.size()));
    const std::string_view name = part.substr(0, part.find('='));
    const auto* at = std::ranges::find_if(
        known, [name](const auto& entry) { return entry.allowed && entry.name == name; });
    auto value = unescape(part.substr(std::min(name.size() + 1, part.size())));
    if (at == std::end(known) || at->value || !value || value->empty()) {
      return std::nullopt;
    }
    at->value = std::move(*value);
  }
  return found;
}

// Credentials as "json:{…}", which tls-creds understands.
Result<std::string> describe_credentials(const Parameters& parameters, const std::string& user) {
  const std::string type = parameters.type.value_or(parameters.keys           ? "psk"
                                                    : parameters.certificates ? "x509"
                                                                              : "");
  schema::JsonObject object;
  object.add("qom-type", "tls-creds-" + type);
  object.add("endpoint", "client");
  if (type == "x509" && parameters.certificates) {
    object.add("dir", *parameters.certificates);
    const std::string verify = parameters.verify.value_or("1");
    if (verify != "0" && verify != "1") {
      return fail(EINVAL, "tls-verify-peer of a URL must be 0 or 1, not '{}'", verify);
    }
    object.add("verify-peer", verify == "1");
  } else if (type == "psk" && parameters.keys) {
    constexpr std::string_view kFile = "/keys.psk";
    const std::string path =
        parameters.keys->contains('/') ? *parameters.keys : "./" + *parameters.keys;
    if (!path.ends_with(kFile)) {
      return fail(EINVAL, "The file of tls-psk-file must be called keys.psk: '{}'", path);
    }
    const std::string dir = path.substr(0, path.size() - kFile.size());
    object.add("dir", dir.empty() ? "/" : dir);
    if (!user.empty()) {
      object.add("username", user);
    }
  } else if (type != "anon") {
    return fail(EINVAL,
                "A URL with TLS needs tls-certificates=DIR, tls-psk-file=FILE or tls-type=anon");
  }
  return "json:" + schema::to_text(object);
}

Result<void> add_tls(schema::BlockdevOptionsNbd& options, const Parameters& parameters,
                     const std::string& user, const std::string& host) {
  auto credentials = describe_credentials(parameters, user);
  if (!credentials) {
    return pass(credentials);
  }
  options.tls_creds = std::move(*credentials);
  options.tls_hostname = parameters.host;
  if (!options.tls_hostname && !host.empty()) {
    options.tls_hostname = host;
  }
  return {};
}

Result<schema::BlockdevOptionsNbd> parse_uri(std::string_view rest, const Scheme& scheme) {
  std::string_view authority = rest.substr(0, rest.find_first_of("/?"));
  rest.remove_prefix(authority.size());
  std::string_view path = rest.substr(0, rest.find('?'));
  const auto parameters = split_query(rest.substr(path.size()), scheme);
  path.remove_prefix(path.empty() ? 0 : 1);
  const auto name = unescape(path);
  const std::size_t at = authority.find('@');
  const auto user = unescape(authority.substr(0, at == std::string_view::npos ? 0 : at));
  authority.remove_prefix(at == std::string_view::npos ? 0 : at + 1);
  const auto where = split_host(authority);
  const auto host = where ? unescape(where->first) : std::optional<std::string>(std::in_place);
  const bool named = scheme.unix_socket ? scheme.tls || authority.empty() : where.has_value();
  if (!parameters || !name || !user || !host || !named || (!scheme.tls && at != authority.npos) ||
      parameters->socket.has_value() != scheme.unix_socket) {
    return invalid_uri();
  }
  schema::BlockdevOptionsNbd options;
  if (!name->empty()) {
    options.export_ = *name;
  }
  options.server =
      scheme.unix_socket
          ? unix_server(*parameters->socket)
          : inet_server(*host, std::string(where->second.empty() ? kDefaultPort : where->second));
  if (scheme.tls) {
    if (auto added = add_tls(options, *parameters, *user, *host); !added) {
      return pass(added);
    }
  }
  return options;
}

Result<schema::BlockdevOptionsNbd> parse_plain(std::string_view rest) {
  schema::BlockdevOptionsNbd options;
  if (const auto name = rest.find(kExportName); name != std::string_view::npos) {
    options.export_ = rest.substr(name + kExportName.size());
    rest = rest.substr(0, name);
  }
  if (rest.empty()) {
    return fail(EINVAL, "NBD server address missing");
  }
  constexpr std::string_view kUnix = "unix:";
  if (rest.starts_with(kUnix)) {
    options.server = unix_server(std::string(rest.substr(kUnix.size())));
    return options;
  }
  const auto where = split_host(rest);
  if (!where || where->second.empty()) {
    return fail(EINVAL, "error parsing address '{}'", rest);
  }
  options.server = inet_server(std::string(where->first), std::string(where->second));
  return options;
}

}  // namespace

bool is_nbd_filename(std::string_view filename) {
  return filename.starts_with("nbd:") || scheme_of(filename) != nullptr;
}

Result<schema::BlockdevOptionsNbd> parse_nbd_filename(std::string_view filename) {
  if (const Scheme* const scheme = scheme_of(filename)) {
    return parse_uri(filename.substr(scheme->start.size()), *scheme);
  }
  return parse_plain(filename.substr(std::string_view("nbd:").size()));
}

std::string nbd_filename(const schema::BlockdevOptionsNbd& options) {
  const std::string name = options.export_.value_or("");
  if (const auto* local = std::get_if<schema::UnixSocketAddress>(&options.server.branch);
      local != nullptr && !local->abstract.value_or(false)) {
    return name.empty() ? fmt::format("nbd+unix://?socket={}", local->path)
                        : fmt::format("nbd+unix:///{}?socket={}", name, local->path);
  }
  if (const auto* inet = std::get_if<schema::InetSocketAddress>(&options.server.branch)) {
    const std::string host =
        inet->host.contains(':') ? fmt::format("[{}]", inet->host) : inet->host;
    return name.empty() ? fmt::format("nbd://{}:{}", host, inet->port)
                        : fmt::format("nbd://{}:{}/{}", host, inet->port, name);
  }
  return {};
}

}  // namespace cairn::block
