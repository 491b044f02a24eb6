// Session: an export of a server, by one connection or several, which come back when they are lost.
//
// A lost connection takes the requests in flight with it; nobody knows whether the server carried
// them out. For `reconnect_delay` they wait for a connection, and are sent again: every request
// says the same when it is carried out twice, and its owner has not been told that it is done. When
// the time is over, and with a delay of 0, requests fail with EIO until there is a connection.
// Connecting is tried again until it succeeds, or until the server has become another: one with
// less than what was agreed on at first must not go on as if it were the same.
//
// A server that says that its connections agree with each other (NBD_FLAG_CAN_MULTI_CONN) gets more
// of them when there is more in flight than one connection should carry.
//
// On one reactor's thread. close() before destruction.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "io/backend.h"
#include "io/cancel.h"
#include "io/event.h"
#include "io/task.h"
#include "io/task_group.h"
#include "protocols/nbd/connection.h"

namespace cairn::nbd::client {

struct SessionOptions {
  Target target;
  std::chrono::seconds reconnect_delay{0};
  std::chrono::seconds open_timeout{0};  // connecting is tried again for so long at first
};

class Session {
 public:
  explicit Session(SessionOptions options) : options_(std::move(options)) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Connects. Fails with what went wrong the last time.
  [[nodiscard]] io::Task<Result<void>> open();

  // What was agreed on at first, and holds for every connection. After open().
  [[nodiscard]] const ExportInfo& info() const { return info_; }
  // Where the server is, for messages: "unix:PATH", "HOST:PORT".
  [[nodiscard]] std::string server() const { return options_.target.address.to_string(); }

  // Completes when the server has answered: with an error when it answered one, or when there was
  // no answer to be had. `exchange` outlives the task.
  [[nodiscard]] io::Task<Result<void>> run(Exchange& exchange);

  [[nodiscard]] io::Task<void> close();

 private:
  using Pointer = std::shared_ptr<Connection>;

  static constexpr std::size_t kMaxConnections = 4;
  // A connection that has so many requests is joined by another one.
  static constexpr std::size_t kEnoughForOne = 8;

  [[nodiscard]] Pointer pick();
  void retire(const Pointer& connection);
  [[nodiscard]] io::Task<void> bury(Pointer connection);
  [[nodiscard]] io::Task<void> reconnect();
  [[nodiscard]] io::Task<void> add_connection();
  [[nodiscard]] Result<void> check_same(const ExportInfo& info) const;
  [[nodiscard]] io::Task<bool> recovered();

  const SessionOptions options_;
  ExportInfo info_;
  std::vector<Pointer> connections_;
  std::string reason_;         // why the last connection was lost
  io::TimePoint lost_at_;      // when there was no connection left
  io::Event connected_{true};  // also set when there will be none any more
  bool reconnecting_ = false;
  bool adding_ = false;
  bool may_add_ = false;
  bool hopeless_ = false;  // the server has changed, or this is being closed
  io::CancelSource closing_;
  io::TaskGroup tasks_;
};

}  // namespace cairn::nbd::client
