// socket: a listening socket that has one client after the other, or a connection made by us.
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "chardev/address.h"
#include "chardev/device.h"
#include "io/mutex.h"
#include "io/task_group.h"
#include "io/timer.h"

namespace cairn::chardev {

namespace {

using Kind = io::SocketAddress::Kind;

// What a client has for the handshake of TLS, during which others wait.
constexpr std::chrono::seconds kHandshakeLimit(10);

// As on the command line, so that people recognise it.
std::string describe(const io::SocketAddress& address) {
  switch (address.kind) {
    case Kind::kUnix:
      return fmt::format("unix:{}{}{}", address.path, address.abstract ? ",abstract=on" : "",
                         address.abstract && address.tight ? ",tight=on" : "");
    case Kind::kInet:
      return fmt::format("tcp:{}", address.to_string());
    case Kind::kVsock:
    case Kind::kFd:
      break;
  }
  return address.to_string();
}

// Cancels a source when a token is cancelled, so that what waits heeds that and a deadline.
class Relay final : private io::CancelHook {
 public:
  Relay(io::CancelToken from, io::CancelSource& to) : to_(to) { arm(from); }

 private:
  void on_cancel() override { to_.cancel(); }
  io::CancelSource& to_;
};

class SocketDevice final : public Device {
 public:
  // `tls` outlives the device; `credentials` may be null, for none of it.
  SocketDevice(const schema::ChardevSocket& options, io::SocketAddress address, std::string label,
               const TlsSource& tls, std::shared_ptr<const io::TlsCredentials> credentials)
      : Device(schema::ChardevBackendKind::kSocket),
        label_(std::move(label)),
        tls_(tls),
        credentials_(std::move(credentials)),
        authz_(options.tls_authz),
        host_(address.host),
        address_(std::move(address)),
        server_(options.server.value_or(true)),
        no_delay_(options.nodelay.value_or(true)),
        reconnect_(options.reconnect_ms.value_or(0)) {}

  // Listens or connects.
  [[nodiscard]] io::Task<Result<void>> open(bool wait, io::CancelToken token);

  [[nodiscard]] std::string filename() const override;
  [[nodiscard]] bool connected() const override { return !here_.empty(); }
  [[nodiscard]] io::Task<void> run(io::CancelToken token) override;

 private:
  [[nodiscard]] io::Task<Result<void>> listen(bool wait, io::CancelToken token);
  [[nodiscard]] io::Task<Result<void>> connect(io::CancelToken token);
  [[nodiscard]] io::Task<void> keep_connected(io::CancelToken token);
  [[nodiscard]] io::Task<void> accept_clients(const io::Listener& listener, io::CancelToken token);
  [[nodiscard]] io::Task<Result<void>> secure(io::Stream& stream, io::CancelToken token);
  [[nodiscard]] io::Task<void> talk(io::Stream stream, io::CancelToken token);

  const std::string label_;
  const TlsSource& tls_;
  const std::shared_ptr<const io::TlsCredentials> credentials_;
  const std::optional<std::string> authz_;
  const std::string host_;
  io::SocketAddress address_;  // with the port that was chosen, when it was to be any
  const bool server_;
  const bool no_delay_;
  const std::chrono::milliseconds reconnect_;
  std::vector<io::Listener> listeners_;
  io::Stream stream_;    // made before the device runs
  io::AsyncMutex turn_;  // held by the client that is being served
  std::string here_;     // the two ends of the connection, while there is one
  std::string there_;
};

io::Task<Result<void>> SocketDevice::open(bool wait, io::CancelToken token) {
  if (server_) {
    Result<void> listening = co_await listen(wait, token);
    co_return listening;
  }
  if (reconnect_.count() > 0) {
    // run() tries until it succeeds.
    co_return Result<void>();
  }
  Result<void> connected = co_await connect(token);
  co_return connected;
}

io::Task<Result<void>> SocketDevice::listen(bool wait, io::CancelToken token) {
  auto listeners = co_await io::Listener::listen(address_);
  if (!listeners) {
    co_return pass(listeners);
  }
  listeners_ = std::move(*listeners);
  if (const auto local = listeners_[0].local_address(); local && address_.kind == Kind::kInet) {
    address_.host = local->host;
    address_.port = local->port;
  }
  if (wait) {
    fmt::print(stderr, "info: waiting for connection on: {}\n", describe(address_));
    Result<io::Stream> stream = co_await listeners_[0].accept(token);
    if (!stream) {
      co_return pass(stream);
    }
    stream_ = std::move(*stream);
  }
  co_return Result<void>();
}

io::Task<Result<void>> SocketDevice::connect(io::CancelToken token) {
  Result<io::Stream> stream = co_await io::Stream::connect(address_, token);
  if (!stream) {
    co_return pass(stream);
  }
  stream_ = std::move(*stream);
  co_return Result<void>();
}

std::string SocketDevice::filename() const {
  const std::string_view server = server_ ? ",server=on" : "";
  if (here_.empty()) {
    // As the field writes it: no brackets around what is listened at.
    const std::string inet = fmt::format("tcp:{}:{}", address_.host, address_.port);
    return fmt::format("disconnected:{}{}",
                       address_.kind == Kind::kInet ? inet : describe(address_), server);
  }
  return there_.empty() ? fmt::format("{}{}", here_, server)
                        : fmt::format("{}{} <-> {}", here_, server, there_);
}

io::Task<void> SocketDevice::run(io::CancelToken token) {
  io::TaskGroup clients;
  if (!server_) {
    co_await keep_connected(token);
    co_return;
  }
  if (stream_.is_open()) {
    clients.spawn(talk(std::move(stream_), token));
  }
  // A name may resolve to several addresses; each has its own listener, and all take turns.
  for (const io::Listener& listener : listeners_) {
    clients.spawn(accept_clients(listener, token));
  }
  co_await clients.join();
}

io::Task<void> SocketDevice::keep_connected(io::CancelToken token) {
  bool reported = false;
  while (!token.cancelled()) {
    if (!stream_.is_open()) {
      const Result<void> connected = co_await connect(token);
      if (!connected && !reported && !token.cancelled()) {
        fmt::print(stderr, "Unable to connect character device {}: {}\n", label_,
                   connected.error().message());
        reported = true;
      }
    }
    if (stream_.is_open()) {
      reported = false;
      co_await talk(std::move(stream_), token);
    }
    if (reconnect_.count() == 0) {
      break;
    }
    const bool slept = co_await io::sleep_for(reconnect_, token);
    static_cast<void>(slept);
  }
}

io::Task<void> SocketDevice::accept_clients(const io::Listener& listener, io::CancelToken token) {
  // Some failures, such as running out of descriptors, last a while.
  constexpr std::chrono::milliseconds kPause(100);
  while (!token.cancelled()) {
    Result<io::Stream> stream = co_await listener.accept(token);
    if (stream) {
      co_await talk(std::move(*stream), token);
    } else if (stream.error().code() != ECANCELED) {
      const bool woken = co_await io::sleep_for(kPause, token);
      static_cast<void>(woken);
    }
  }
}

// Does the handshake of TLS. `stream` outlives the task.
io::Task<Result<void>> SocketDevice::secure(io::Stream& stream, io::CancelToken token) {
  auto session = credentials_->start(server_ ? std::nullopt : std::optional(host_));
  if (!session) {
    co_return pass(session);
  }
  io::CancelSource give_up;
  const io::Deadline deadline(give_up, kHandshakeLimit);
  const Relay relay(token, give_up);
  auto securing = stream.secure(std::move(*session), give_up.token());
  Result<void> done = co_await std::move(securing);
  if (done && server_ && authz_ && credentials_->uses_certificates()) {
    const auto identity = stream.tls()->peer_identity();
    done = identity ? tls_.authorize(*authz_, *identity)
                    : fail(EACCES, "TLS x509 authz check of a client without a certificate");
  }
  co_return done;
}

// A client that comes while another one is served waits, and hears nothing, until that one has
// gone.
io::Task<void> SocketDevice::talk(io::Stream stream, io::CancelToken token) {
  const auto turn = co_await turn_.lock();
  if (token.cancelled()) {
    co_return;
  }
  stream.set_no_delay(no_delay_);
  if (credentials_) {
    const Result<void> secured = co_await secure(stream, token);
    if (!secured) {
      fmt::print(stderr, "Character device {}: {}\n", label_, secured.error().message());
      co_return;
    }
  }
  // A client of a Unix socket has no name of its own at this end.
  here_ = describe(address_);
  if (address_.kind == Kind::kInet || (address_.kind == Kind::kUnix && !server_)) {
    const auto local = stream.local();
    here_ = local ? describe(*local) : here_;
  }
  if (address_.kind == Kind::kInet) {
    const auto peer = stream.peer();
    there_ = peer ? peer->to_string() : "";
  }
  StreamConnection connection(std::move(stream));
  co_await serve(connection, connection.stream().fd(), token);
  connection.stream().say_goodbye();
  here_.clear();
  there_.clear();
}

Result<void> check(const schema::ChardevSocket& options) {
  const bool server = options.server.value_or(true);
  if (!server && options.wait) {
    return fail(EINVAL, "'wait' option is incompatible with socket in client connect mode");
  }
  if (server && options.reconnect_ms.value_or(0) != 0) {
    return fail(EINVAL, "'reconnect-ms' option is incompatible with socket in server listen mode");
  }
  if (options.reconnect_ms.value_or(0) < 0) {
    return fail(EINVAL, "'reconnect-ms' can not be negative");
  }
  if (options.tls_authz && !options.tls_creds) {
    return fail(EINVAL, "'tls_authz' option requires 'tls_creds' option");
  }
  return {};
}

// Null when there are to be none.
Result<std::shared_ptr<const io::TlsCredentials>> find_credentials(
    const schema::ChardevSocket& options, const TlsSource& tls) {
  if (!options.tls_creds) {
    return nullptr;
  }
  Result<std::shared_ptr<const io::TlsCredentials>> found = nullptr;
  if (tls.credentials) {
    found = tls.credentials(*options.tls_creds, options.server.value_or(true));
  }
  if (found && options.addr.type != schema::SocketAddressType::kInet) {
    return fail(EINVAL, "'tls_creds' option is incompatible with '{}' address type",
                schema::to_string(options.addr.type));
  }
  if (!tls.credentials) {
    return fail(ENOTSUP, "There is no TLS for character devices here");
  }
  return found;
}

}  // namespace

io::Task<OpenResult> open_socket(schema::ChardevSocket options, std::string label,
                                 const TlsSource& tls, io::CancelToken token) {
  auto checked = check(options);
  if (!checked) {
    co_return pass(checked);
  }
  auto credentials = find_credentials(options, tls);
  if (!credentials) {
    co_return pass(credentials);
  }
  auto address = to_io(options.addr, options.server.value_or(true) ? Use::kListen : Use::kConnect);
  if (!address) {
    co_return pass(address);
  }
  const bool wait = options.wait.value_or(false);
  auto device = std::make_unique<SocketDevice>(options, std::move(*address), std::move(label), tls,
                                               std::move(*credentials));
  Result<void> opened = co_await device->open(wait, token);
  if (!opened) {
    co_return pass(opened);
  }
  co_return device;
}

}  // namespace cairn::chardev
