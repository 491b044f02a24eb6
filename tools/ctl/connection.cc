#include "tools/ctl/connection.h"

#include <cerrno>
#include <utility>

#include "tools/ctl/address.h"
#include "tools/ctl/json.h"

namespace cairn::ctl {

namespace {

// A daemon may have thousands of nodes to tell about; it is no stranger to who talks to it.
constexpr schema::JsonLimits kLimits{
    .depth = 1024, .bytes = size_t{256} << 20, .tokens = size_t{1} << 24};

// From the greeting's "version".
std::string describe_version(const schema::JsonObject& greeting) {
  const schema::JsonValue* version = greeting.find("version");
  const schema::JsonObject* parts = version ? version->as_object() : nullptr;
  const schema::JsonValue* triple = parts ? parts->find("qemu") : nullptr;
  if (!triple || !triple->is_object()) {
    return "of an unknown version";
  }
  std::string text;
  for (const std::string_view name : {"major", "minor", "micro"}) {
    const schema::JsonValue* number = triple->as_object()->find(name);
    text += text.empty() ? "" : ".";
    text += number ? schema::to_text(*number) : "?";
  }
  const std::string package = text_in(*parts, "package");
  return package.empty() ? text : text + " (" + package + ")";
}

}  // namespace

Connection::Connection(io::Fd fd, std::string where)
    : transport_(std::move(fd)), where_(std::move(where)), stream_(kLimits) {}

Result<Connection> Connection::open(std::string_view where, std::chrono::milliseconds patience,
                                    TlsWish tls) {
  auto address = parse_monitor_address(where);
  if (!address) {
    return pass(address);
  }
  auto fd = connect_to(*address);
  if (!fd) {
    return pass(fd);
  }
  if (tls.credentials && !tls.host && !address->is_unix) {
    tls.host = address->host;
  }
  return adopt(std::move(*fd), address->to_string(), patience, tls);
}

Result<Connection> Connection::adopt(io::Fd fd, std::string where,
                                     std::chrono::milliseconds patience, const TlsWish& tls) {
  Connection connection(std::move(fd), std::move(where));
  const Clock::time_point deadline = Clock::now() + patience;
  Result<void> greeted;
  if (tls.credentials) {
    greeted = connection.secure(tls, deadline);
  }
  if (greeted) {
    greeted = connection.greet(deadline);
  }
  if (!greeted) {
    return pass(greeted);
  }
  return connection;
}

std::unexpected<Error> Connection::silence() const {
  return fail(ETIMEDOUT,
              "'{}' does not greet: it is no monitor, or it is talking to another client", where_);
}

Result<void> Connection::secure(const TlsWish& tls, Clock::time_point deadline) {
  auto done = transport_.secure(tls, deadline);
  if (done) {
    return {};
  }
  if (done.error().code() == ETIMEDOUT) {
    return silence();
  }
  return fail(done.error().code(), "'{}': TLS handshake failed: {}", where_,
              done.error().message());
}

Result<void> Connection::greet(Clock::time_point deadline) {
  auto message = receive(deadline);
  if (!message) {
    return pass(message);
  }
  if (!*message) {
    return silence();
  }
  const schema::JsonObject* object = (*message)->as_object();
  const schema::JsonValue* greeting = object ? object->find("QMP") : nullptr;
  if (!greeting || !greeting->is_object()) {
    return fail(EPROTO, "'{}' is not a monitor that speaks QMP", where_);
  }
  version_ = describe_version(*greeting->as_object());
  auto reply = execute("qmp_capabilities");
  if (!reply) {
    return pass(reply);
  }
  if (reply->refused) {
    return fail(EPROTO, "'{}' refuses to negotiate: {}", where_, reply->description);
  }
  return {};
}

Result<Reply> Connection::execute(std::string_view command, schema::JsonValue arguments) {
  schema::JsonObject request;
  request.add("execute", command);
  if (const auto* object = arguments.as_object(); object && !object->empty()) {
    request.add("arguments", std::move(arguments));
  }
  auto sent = send(schema::to_text(request) + "\n");
  if (!sent) {
    return pass(sent);
  }
  auto message = answer();
  if (!message) {
    return pass(message);
  }
  schema::JsonObject* object = message->as_object();
  Reply reply;
  if (schema::JsonValue* value = object->find("return")) {
    reply.value = std::move(*value);
    return reply;
  }
  const schema::JsonValue* error = object->find("error");
  if (!error || !error->is_object()) {
    return fail(EPROTO, "'{}' answers in another protocol", where_);
  }
  reply.refused = true;
  reply.error_class = text_in(*error->as_object(), "class");
  reply.description = text_in(*error->as_object(), "desc");
  return reply;
}

Result<std::optional<schema::JsonValue>> Connection::next_event(
    std::optional<Clock::time_point> deadline) {
  while (events_.empty()) {
    auto message = receive(deadline);
    if (!message || !*message) {
      return message;
    }
    if ((*message)->is_object() && (*message)->as_object()->find("event")) {
      return message;
    }
  }
  std::optional<schema::JsonValue> event = std::move(events_.front());
  events_.pop_front();
  return event;
}

Result<void> Connection::drain_events(Clock::time_point deadline) {
  while (true) {
    auto event = next_event(deadline);
    if (!event) {
      return pass(event);
    }
    if (!*event) {
      return {};
    }
  }
}

Result<void> Connection::send(std::string_view text) {
  auto sent = transport_.send(text);
  return sent ? sent : lost(sent.error());
}

// The end of the connection for any other reason than a signal.
std::unexpected<Error> Connection::lost(const Error& why) const {
  return fail(why.code(), "Lost the connection to '{}': {}", where_, why.message());
}

Result<schema::JsonValue> Connection::answer() {
  while (true) {
    auto message = receive(std::nullopt);
    if (!message) {
      return pass(message);
    }
    const schema::JsonObject* object = (*message)->as_object();
    if (!object) {
      return fail(EPROTO, "'{}' answers in another protocol", where_);
    }
    if (!object->find("event")) {
      return std::move(**message);
    }
    events_.push_back(std::move(**message));
  }
}

Result<std::optional<schema::JsonValue>> Connection::receive(
    std::optional<Clock::time_point> deadline) {
  while (true) {
    std::string_view rest = input_;
    auto item = stream_.next(rest);
    input_.erase(0, input_.size() - rest.size());
    if (item && !*item) {
      return fail(EPROTO, "'{}' is not a monitor that speaks QMP: {}", where_,
                  item->error().message());
    }
    if (item) {
      return std::optional<schema::JsonValue>(std::move(**item));
    }
    const auto got = transport_.receive(input_, deadline);
    if (!got && got.error().code() == EINTR) {
      if (!deadline && (!stop_ || *stop_ == 0)) {
        continue;
      }
      return fail_errno(EINTR, "Waiting for '{}'", where_);
    }
    if (!got) {
      return lost(got.error());
    }
    if (*got == Transport::Got::kNothing) {
      return std::optional<schema::JsonValue>();
    }
    if (*got == Transport::Got::kEnd) {
      return fail(ECONNRESET, "'{}' has closed the connection", where_);
    }
  }
}

}  // namespace cairn::ctl
