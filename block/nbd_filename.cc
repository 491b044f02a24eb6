#include "block/nbd_filename.h"

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <optional>
#include <utility>
#include <variant>

#include "schema/types_block_options.h"

namespace cairn::block {

namespace {

constexpr std::string_view kDefaultPort = "10809";
constexpr std::string_view kUnixUri = "nbd+unix://";
constexpr std::string_view kTcpUris[] = {"nbd+tcp://", "nbd://"};
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

Result<schema::BlockdevOptionsNbd> parse_uri(std::string_view rest, bool tcp) {
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?"));
  rest.remove_prefix(authority.size());
  std::string_view path = rest.substr(0, rest.find('?'));
  std::string_view query = rest.substr(path.size());
  path.remove_prefix(path.empty() ? 0 : 1);
  const auto name = unescape(path);
  if (!name) {
    return invalid_uri();
  }
  schema::BlockdevOptionsNbd options;
  if (!name->empty()) {
    options.export_ = *name;
  }
  if (tcp) {
    const auto where = split_host(authority);
    const auto host = where ? unescape(where->first) : std::nullopt;
    if (!host || !query.empty()) {
      return invalid_uri();
    }
    options.server =
        inet_server(*host, std::string(where->second.empty() ? kDefaultPort : where->second));
    return options;
  }
  constexpr std::string_view kSocket = "?socket=";
  if (!authority.empty() || !query.starts_with(kSocket) || query.contains('&')) {
    return invalid_uri();
  }
  const auto socket = unescape(query.substr(kSocket.size()));
  if (!socket || socket->empty()) {
    return invalid_uri();
  }
  options.server = unix_server(*socket);
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
  return filename.starts_with("nbd:") || filename.starts_with(kUnixUri) ||
         filename.starts_with(kTcpUris[0]);
}

Result<schema::BlockdevOptionsNbd> parse_nbd_filename(std::string_view filename) {
  if (filename.starts_with(kUnixUri)) {
    return parse_uri(filename.substr(kUnixUri.size()), false);
  }
  for (const std::string_view scheme : kTcpUris) {
    if (filename.starts_with(scheme)) {
      return parse_uri(filename.substr(scheme.size()), true);
    }
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
