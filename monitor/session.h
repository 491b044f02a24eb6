// Session: one client's conversation in the monitor protocol (docs/interop/qmp-spec.rst).
//
// Invariants
// - Requests are answered one at a time, in the order they came, but for those out of band: the
//   reader answers these itself, while another one is at work.
// - What is read ahead is bounded: one request, or with out-of-band requests kMostAhead, so that
//   there is something for them to overtake.
// - Before qmp_capabilities nothing else is answered and no event is sent.
// - What waits to be sent is bounded: while a client does not read its replies no more requests are
//   taken from it, and one that lets events pile up is disconnected.
// - One that only sends what is no request is disconnected after a while.
#pragma once

#include <cstddef>
#include <deque>
#include <string>

#include "base/result.h"
#include "chardev/connection.h"
#include "io/cancel.h"
#include "io/event.h"
#include "io/task.h"
#include "monitor/request.h"
#include "monitor/services.h"
#include "schema/json.h"
#include "schema/json_stream.h"

namespace cairn::monitor {

class Session final : public EventListener {
 public:
  // Both outlive the session.
  Session(Services& services, chardev::Connection& connection, bool pretty);
  ~Session() override;

  // Greets, then answers until the client goes away, `token` is cancelled or quit was asked for.
  // What was answered by then is sent, within reason.
  [[nodiscard]] io::Task<void> run(io::CancelToken token);

  void on_event(const schema::JsonValue& message) override;

 private:
  // What was found in the stream and waits for its turn.
  struct Pending {
    Result<schema::JsonValue> item;
    size_t bytes;  // of the stream, this much
  };

  [[nodiscard]] io::Task<void> read_requests(io::CancelToken token);
  [[nodiscard]] io::Task<bool> take_input(std::string_view input);
  [[nodiscard]] io::Task<void> answer_requests();
  [[nodiscard]] io::Task<void> write_replies();
  [[nodiscard]] bool may_read_ahead() const;
  [[nodiscard]] bool is_out_of_band(const Result<schema::JsonValue>& item) const;
  [[nodiscard]] io::Task<void> answer(Result<schema::JsonValue> item);
  [[nodiscard]] io::Task<Result<schema::JsonValue>> execute(Request request);
  [[nodiscard]] Result<schema::JsonValue> negotiate(const schema::JsonValue& arguments);
  [[nodiscard]] bool finished() const { return failed_ || services_.stop.is_set(); }
  void send(const schema::JsonValue& message);
  void trace(std::string_view what, std::string_view text) const;

  Services& services_;
  chardev::Connection& connection_;
  const bool pretty_;
  bool negotiated_ = false;
  bool oob_enabled_ = false;

  schema::JsonStream stream_;
  size_t stream_bytes_ = 0;  // taken by it since the last item
  int faults_in_a_row_ = 0;  // messages that were no requests, since the last one that was
  std::deque<Pending> ahead_;
  size_t ahead_bytes_ = 0;
  bool no_more_requests_ = false;
  io::Event arrived_;         // there are requests, or there will be no more
  io::Event may_read_{true};  // as may_read_ahead() says
  std::string outbox_;        // not handed to the kernel yet
  bool failed_ = false;       // the client is gone or has been given up
  bool closing_ = false;      // nothing more will be added to the outbox
  io::Event work_;            // the writer has something to do
  io::Event room_{true};      // the outbox is short enough to take more requests
  io::CancelSource reading_;
  io::CancelSource writing_;
};

}  // namespace cairn::monitor
