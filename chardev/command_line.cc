// Names and defaults differ from those of chardev-add: a server waits for its first client unless
// it is told otherwise, and a socket connects unless it is told to listen.
#include "chardev/command_line.h"

#include <cerrno>
#include <charconv>
#include <initializer_list>
#include <optional>
#include <utility>

#include "base/identifier.h"
#include "base/size_text.h"
#include "chardev/option_list.h"

namespace cairn::chardev {

namespace {

using BackendKind = schema::ChardevBackendKind;
using Options = const OptionList&;

// Stores options one after the other until one is wrong.
class Taker {
 public:
  explicit Taker(Options options) : options_(options) {}

  Taker& text(std::string_view name, std::optional<std::string>& out) {
    if (const std::string* value = options_.find(name); ok() && value) {
      out = *value;
    }
    return *this;
  }
  Taker& flag(std::string_view name, std::optional<bool>& out) {
    if (ok()) {
      auto value = options_.find_switch(name);
      value ? static_cast<void>(out = *value) : fail_with(value.error());
    }
    return *this;
  }
  template <typename Number>
  Taker& number(std::string_view name, std::optional<Number>& out) {
    const std::string* text = options_.find(name);
    if (!ok() || !text) {
      return *this;
    }
    Number value = 0;
    const char* end = text->data() + text->size();
    const auto parsed = std::from_chars(text->data(), end, value);
    if (parsed.ec != std::errc() || parsed.ptr != end) {
      fail_with(Error(EINVAL, fmt::format("Parameter '{}' expects a number", name)));
    } else {
      out = value;
    }
    return *this;
  }
  Result<void> end() { return ok() ? Result<void>() : std::unexpected(std::move(*error_)); }
  // Any other option is an error, too.
  Result<void> finish(std::initializer_list<std::string_view> known) {
    if (!ok()) {
      return end();
    }
    std::vector<std::string_view> names(known);
    names.insert(names.end(), {"backend", "id", "logfile", "logappend", "logtimestamp"});
    return options_.check_names(names);
  }

 private:
  [[nodiscard]] bool ok() const { return !error_.has_value(); }
  void fail_with(Error error) { error_ = std::move(error); }

  Options options_;
  std::optional<Error> error_;
};

Taker take_common(Options options, schema::ChardevCommon& common) {
  Taker taker(options);
  taker.text("logfile", common.logfile)
      .flag("logappend", common.logappend)
      .flag("logtimestamp", common.logtimestamp);
  return taker;
}

Result<void> parse_address(Options options, schema::SocketAddressLegacy& address) {
  const std::string* path = options.find("path");
  const std::string* host = options.find("host");
  const std::string* fd = options.find("fd");
  if ((path != nullptr) + (host != nullptr) + (fd != nullptr) != 1) {
    return fail(EINVAL, "None or one of 'path', 'fd' or 'host' option required.");
  }
  Taker taker(options);
  if (path) {
    schema::UnixSocketAddressWrapper unix_socket{.data = {.path = *path}};
    taker.flag("abstract", unix_socket.data.abstract).flag("tight", unix_socket.data.tight);
    address.type = schema::SocketAddressType::kUnix;
    address.branch = std::move(unix_socket);
  } else if (host) {
    const std::string* port = options.find("port");
    if (!port) {
      return fail(EINVAL, "chardev: socket: no port given");
    }
    schema::InetSocketAddressWrapper inet;
    inet.data.host = *host;
    inet.data.port = *port;
    taker.flag("ipv4", inet.data.ipv4).flag("ipv6", inet.data.ipv6).number("to", inet.data.to);
    address.type = schema::SocketAddressType::kInet;
    address.branch = std::move(inet);
  } else {
    address.type = schema::SocketAddressType::kFd;
    address.branch = schema::FdSocketAddressWrapper{.data = {.str = *fd}};
  }
  return taker.end();
}

Result<void> parse_socket(Options options, schema::ChardevBackend& backend) {
  schema::ChardevSocketWrapper wrapper;
  schema::ChardevSocket& socket = wrapper.data;
  std::optional<int64_t> seconds;
  Taker taker = take_common(options, socket);
  taker.flag("server", socket.server)
      .flag("wait", socket.wait)
      .flag("nodelay", socket.nodelay)
      .number("reconnect", seconds)
      .number("reconnect-ms", socket.reconnect_ms)
      .text("tls-creds", socket.tls_creds)
      .text("tls-authz", socket.tls_authz);
  // A wrong name is told before an address that is missing.
  auto parsed = taker.finish({"path", "abstract", "tight", "host", "port", "to", "ipv4", "ipv6",
                              "fd", "server", "wait", "nodelay", "reconnect", "reconnect-ms",
                              "tls-creds", "tls-authz"});
  if (parsed) {
    parsed = parse_address(options, socket.addr);
  }
  if (!parsed) {
    return parsed;
  }
  if (seconds && socket.reconnect_ms) {
    return fail(EINVAL, "'reconnect' and 'reconnect-ms' are mutually exclusive");
  }
  if (seconds) {
    socket.reconnect_ms = *seconds * 1000;
  }
  socket.server = socket.server.value_or(false);
  if (*socket.server && !socket.wait) {
    socket.wait = true;
  }
  backend.branch = std::move(wrapper);
  return {};
}

Result<void> parse_file(Options options, schema::ChardevBackend& backend) {
  schema::ChardevFileWrapper wrapper;
  const std::string* path = options.find("path");
  if (!path) {
    return fail(EINVAL, "chardev: file: no filename given");
  }
  wrapper.data.out = *path;
  Taker taker = take_common(options, wrapper.data);
  taker.text("input-path", wrapper.data.in).flag("append", wrapper.data.append);
  backend.branch = std::move(wrapper);
  return taker.finish({"path", "input-path", "append"});
}

Result<void> parse_pipe(Options options, schema::ChardevBackend& backend) {
  schema::ChardevHostdevWrapper wrapper;
  const std::string* path = options.find("path");
  if (!path) {
    return fail(EINVAL, "chardev: pipe: no device path given");
  }
  wrapper.data.device = *path;
  Taker taker = take_common(options, wrapper.data);
  backend.branch = std::move(wrapper);
  return taker.finish({"path"});
}

Result<void> parse_pty(Options options, schema::ChardevBackend& backend) {
  schema::ChardevPtyWrapper wrapper;
  Taker taker = take_common(options, wrapper.data);
  taker.text("path", wrapper.data.path);
  backend.branch = std::move(wrapper);
  return taker.finish({"path"});
}

Result<void> parse_stdio(Options options, schema::ChardevBackend& backend) {
  schema::ChardevStdioWrapper wrapper;
  Taker taker = take_common(options, wrapper.data);
  taker.flag("signal", wrapper.data.signal);
  backend.branch = std::move(wrapper);
  return taker.finish({"signal"});
}

Result<void> parse_ringbuf(Options options, schema::ChardevBackend& backend) {
  schema::ChardevRingbufWrapper wrapper;
  Taker taker = take_common(options, wrapper.data);
  if (const std::string* text = options.find("size")) {
    const auto size = parse_size(*text);
    if (!size) {
      return std::unexpected(
          Error(EINVAL, "Parameter 'size' expects a non-negative number below 2^64")
              .with_hint("Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, "
                         "peta-\nand exabytes, respectively."));
    }
    wrapper.data.size = static_cast<int64_t>(*size);
  }
  backend.branch = std::move(wrapper);
  return taker.finish({"size"});
}

Result<void> parse_null(Options options, schema::ChardevBackend& backend) {
  schema::ChardevCommonWrapper wrapper;
  Taker taker = take_common(options, wrapper.data);
  backend.branch = std::move(wrapper);
  return taker.finish({});
}

Result<void> parse_backend(Options options, schema::ChardevBackend& backend) {
  switch (backend.type) {
    case BackendKind::kSocket:
      return parse_socket(options, backend);
    case BackendKind::kFile:
      return parse_file(options, backend);
    case BackendKind::kPipe:
      return parse_pipe(options, backend);
    case BackendKind::kPty:
      return parse_pty(options, backend);
    case BackendKind::kStdio:
      return parse_stdio(options, backend);
    case BackendKind::kRingbuf:
    case BackendKind::kMemory:
      return parse_ringbuf(options, backend);
    case BackendKind::kNull:
      break;
  }
  return parse_null(options, backend);
}

}  // namespace

Result<ChardevText> parse_chardev(std::string_view text) {
  const OptionList options = OptionList::parse(text, "backend");
  const std::string* backend = options.find("backend");
  const std::string* id = options.find("id");
  ChardevText result;
  result.warnings = options.warnings();
  if (id && !is_identifier(*id)) {
    return std::unexpected(Error(EINVAL, "Parameter 'id' expects an identifier")
                               .with_hint(std::string(kIdentifierHint)));
  }
  if (!id) {
    return fail(EINVAL, "chardev: no id specified");
  }
  if (!backend) {
    return fail(EINVAL, "chardev: \"{}\" missing backend", *id);
  }
  const auto kind = schema::from_string<BackendKind>(*backend);
  if (!kind) {
    return fail(EINVAL, "'{}' is not a valid char driver name", *backend);
  }
  result.id = *id;
  result.backend.type = *kind;
  auto parsed = parse_backend(options, result.backend);
  if (!parsed) {
    return pass(parsed);
  }
  return result;
}

}  // namespace cairn::chardev
