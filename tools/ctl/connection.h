// Connection: a client's side of the monitor protocol (docs/interop/qmp-spec.rst).
//
// Calls block. An Error means that there is no connection, or none any more; what the daemon
// refuses is a Reply.
#pragma once

#include <chrono>
#include <csignal>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "io/fd.h"
#include "schema/json.h"
#include "schema/json_stream.h"
#include "tools/ctl/transport.h"

namespace cairn::ctl {

struct Reply {
  schema::JsonValue value;  // what the command returned
  bool refused = false;     // it failed, and:
  std::string error_class;  // "CommandNotFound", "GenericError", …
  std::string description;
};

class Connection {
 public:
  // Connects, waits for the greeting and negotiates. A monitor that talks to somebody else lets
  // others wait; after `patience` that is an error. With TLS the daemon has to be who it was looked
  // for as, unless `tls` names somebody else.
  [[nodiscard]] static Result<Connection> open(std::string_view where,
                                               std::chrono::milliseconds patience,
                                               TlsWish tls = {});

  // Takes a socket that is connected; `where` is for messages.
  [[nodiscard]] static Result<Connection> adopt(io::Fd fd, std::string where,
                                                std::chrono::milliseconds patience,
                                                const TlsWish& tls = {});

  [[nodiscard]] Result<Reply> execute(std::string_view command,
                                      schema::JsonValue arguments = schema::JsonObject());

  // The next event, the ones that came during execute() first; nothing at `deadline`. EINTR when a
  // signal came that has a handler.
  [[nodiscard]] Result<std::optional<schema::JsonValue>> next_event(
      std::optional<Clock::time_point> deadline);

  // Waits until `deadline`, and forgets all events that have come by then. EINTR when a signal came
  // before.
  [[nodiscard]] Result<void> drain_events(Clock::time_point deadline);

  // A signal whose handler sets `flag`, which outlives the connection, ends every call with EINTR.
  // Others end only those with a deadline.
  void stop_when(const volatile std::sig_atomic_t& flag) { stop_ = &flag; }

  // "10.2.0 (Cairn 0.1.0)", from the greeting.
  [[nodiscard]] const std::string& version() const { return version_; }
  [[nodiscard]] const std::string& where() const { return where_; }

 private:
  Connection(io::Fd fd, std::string where);
  [[nodiscard]] Result<void> secure(const TlsWish& tls, Clock::time_point deadline);
  [[nodiscard]] Result<void> greet(Clock::time_point deadline);
  [[nodiscard]] std::unexpected<Error> silence() const;
  [[nodiscard]] std::unexpected<Error> lost(const Error& why) const;
  [[nodiscard]] Result<void> send(std::string_view text);
  // The next message that is no event.
  [[nodiscard]] Result<schema::JsonValue> answer();
  // The next message; nothing at `deadline`.
  [[nodiscard]] Result<std::optional<schema::JsonValue>> receive(
      std::optional<Clock::time_point> deadline);

  Transport transport_;
  std::string where_;
  std::string version_;
  schema::JsonStream stream_;
  std::string input_;  // received, not parsed yet
  std::deque<schema::JsonValue> events_;
  const volatile std::sig_atomic_t* stop_ = nullptr;
};

}  // namespace cairn::ctl
