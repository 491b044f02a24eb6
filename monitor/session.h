// Session: one client's conversation in the monitor protocol (docs/interop/qmp-spec.rst).
//
// Invariants
// - Requests are answered one at a time, in the order they came; what is read ahead is one buffer.
// - Before qmp_capabilities nothing else is answered and no event is sent.
// - What waits to be sent is bounded: while a client does not read its replies no more requests are
//   taken from it, and one that lets events pile up is disconnected.
// - One that only sends what is no request is disconnected after a while.
#pragma once

#include <cstddef>
#include <string>

#include "base/result.h"
#include "io/cancel.h"
#include "io/event.h"
#include "io/task.h"
#include "monitor/connection.h"
#include "monitor/request.h"
#include "monitor/services.h"
#include "schema/json.h"
#include "schema/json_stream.h"

namespace cairn::monitor {

class Session final : public EventListener {
 public:
  // Both outlive the session.
  Session(Services& services, Connection& connection, bool pretty);
  ~Session() override;

  // Greets, then answers until the client goes away, `token` is cancelled or quit was asked for.
  // What was answered by then is sent, within reason.
  [[nodiscard]] io::Task<void> run(io::CancelToken token);

  void on_event(const schema::JsonValue& message) override;

 private:
  [[nodiscard]] io::Task<void> read_requests(io::CancelToken token);
  [[nodiscard]] io::Task<void> write_replies();
  [[nodiscard]] io::Task<void> answer(Result<schema::JsonValue> item);
  [[nodiscard]] io::Task<Result<schema::JsonValue>> execute(Request request);
  [[nodiscard]] Result<schema::JsonValue> negotiate(const schema::JsonValue& arguments);
  [[nodiscard]] bool finished() const { return failed_ || services_.stop.is_set(); }
  void send(const schema::JsonValue& message);
  void trace(std::string_view what, std::string_view text) const;

  Services& services_;
  Connection& connection_;
  const bool pretty_;
  bool negotiated_ = false;
  bool oob_enabled_ = false;

  schema::JsonStream stream_;
  int faults_in_a_row_ = 0;  // messages that were no requests, since the last one that was
  std::string outbox_;       // not handed to the kernel yet
  bool failed_ = false;      // the client is gone or has been given up
  bool closing_ = false;     // nothing more will be added to the outbox
  io::Event work_;           // the writer has something to do
  io::Event room_{true};     // the outbox is short enough to take more requests
  io::CancelSource reading_;
  io::CancelSource writing_;
};

}  // namespace cairn::monitor
