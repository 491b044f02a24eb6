// Parsing --chardev, and opening what it describes.
#include "monitor/chardev.h"

#include <cerrno>
#include <cstdio>
#include <utility>

#include "monitor/option_list.h"

namespace cairn::monitor {

namespace {

constexpr std::string_view kSocketOptions[] = {"backend", "id",   "path", "abstract", "host",
                                               "port",    "ipv4", "ipv6", "server",   "wait"};
constexpr std::string_view kPlainOptions[] = {"backend", "id"};

Result<io::SocketAddress> unix_address(const OptionList& options, const std::string& path) {
  const auto abstract = options.find_switch("abstract");
  if (!abstract) {
    return std::unexpected(abstract.error());
  }
  io::SocketAddress address = io::SocketAddress::unix_path(path);
  address.abstract = abstract->value_or(false);
  return address;
}

Result<io::SocketAddress> inet_address(const OptionList& options, const std::string& host) {
  using Family = io::SocketAddress::Family;
  const std::string* port = options.find("port");
  const auto ipv4 = options.find_switch("ipv4");
  const auto ipv6 = options.find_switch("ipv6");
  if (!port) {
    return fail(EINVAL, "chardev: socket: no port given");
  }
  if (!ipv4) {
    return std::unexpected(ipv4.error());
  }
  if (!ipv6) {
    return std::unexpected(ipv6.error());
  }
  const bool only4 = ipv4->value_or(false) && !ipv6->value_or(false);
  const bool only6 = ipv6->value_or(false) && !ipv4->value_or(false);
  return io::SocketAddress::inet(host, *port,
                                 only4   ? Family::kIpv4
                                 : only6 ? Family::kIpv6
                                         : Family::kAny);
}

Result<void> parse_socket(const OptionList& options, ChardevSettings& settings) {
  if (const auto checked = options.check_names(kSocketOptions); !checked) {
    return checked;
  }
  const std::string* path = options.find("path");
  const std::string* host = options.find("host");
  if ((path != nullptr) == (host != nullptr)) {
    return fail(EINVAL, "One of 'path' and 'host' must be given");
  }
  auto address = path ? unix_address(options, *path) : inet_address(options, *host);
  if (!address) {
    return pass(address);
  }
  const auto server = options.find_switch("server");
  if (!server) {
    return std::unexpected(server.error());
  }
  const auto wait = options.find_switch("wait");
  if (!wait) {
    return std::unexpected(wait.error());
  }
  settings.address = std::move(*address);
  settings.server = server->value_or(false);
  settings.wait = settings.server && wait->value_or(true);
  return {};
}

}  // namespace

Result<ChardevSettings> parse_chardev(std::string_view text) {
  const OptionList options = OptionList::parse(text, "backend");
  const std::string* backend = options.find("backend");
  const std::string* id = options.find("id");
  ChardevSettings settings;
  settings.warnings = options.warnings();
  if (id && !is_identifier(*id)) {
    return std::unexpected(
        Error(EINVAL, "Parameter 'id' expects an identifier")
            .with_hint("Identifiers consist of letters, digits, '-', '.', '_', starting with a "
                       "letter."));
  }
  if (!backend) {
    return fail(EINVAL, "chardev: \"{}\" missing backend", id ? *id : "");
  }
  if (*backend == "socket") {
    settings.kind = ChardevSettings::Kind::kSocket;
  } else if (*backend == "stdio") {
    settings.kind = ChardevSettings::Kind::kStdio;
  } else if (*backend != "null") {
    return fail(EINVAL, "'{}' is not a valid char driver name", *backend);
  }
  if (!id) {
    return fail(EINVAL, "chardev: no id specified");
  }
  settings.id = *id;
  const Result<void> parsed = settings.kind == ChardevSettings::Kind::kSocket
                                  ? parse_socket(options, settings)
                                  : options.check_names(kPlainOptions);
  if (!parsed) {
    return std::unexpected(parsed.error());
  }
  return settings;
}

io::Task<Result<std::unique_ptr<Chardev>>> Chardev::open(ChardevSettings settings,
                                                         io::CancelToken token) {
  std::unique_ptr<Chardev> chardev(new Chardev(std::move(settings)));
  const ChardevSettings& wanted = chardev->settings_;
  if (wanted.kind != ChardevSettings::Kind::kSocket) {
    co_return chardev;
  }
  if (!wanted.server) {
    Result<io::Stream> stream = co_await io::Stream::connect(wanted.address, token);
    if (!stream) {
      co_return pass(stream);
    }
    chardev->stream_ = std::move(*stream);
    co_return chardev;
  }
  auto listeners = co_await io::Listener::listen(wanted.address);
  if (!listeners) {
    co_return pass(listeners);
  }
  chardev->listeners_ = std::move(*listeners);
  if (wanted.wait) {
    fmt::print(stderr, "info: waiting for connection on: {}\n", wanted.address.to_string());
    Result<io::Stream> stream = co_await chardev->listeners_[0].accept(token);
    if (!stream) {
      co_return pass(stream);
    }
    chardev->stream_ = std::move(*stream);
  }
  co_return chardev;
}

}  // namespace cairn::monitor
