#include "protocols/nbd/session.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "io/reactor.h"
#include "io/timer.h"

namespace cairn::nbd::client {

namespace {

// Between attempts to connect, from the first to all later ones.
constexpr io::Duration kFirstPause = std::chrono::milliseconds(100);
constexpr io::Duration kLongestPause = std::chrono::seconds(16);

}  // namespace

io::Task<Result<void>> Session::open() {
  io::CancelSource timeout;
  std::optional<io::Deadline> deadline;
  if (options_.open_timeout.count() != 0) {
    deadline.emplace(timeout, io::Duration(options_.open_timeout));
  }
  const bool again = deadline && options_.target.address.kind != io::SocketAddress::Kind::kFd;
  for (io::Duration pause = kFirstPause;; pause = std::min(2 * pause, kLongestPause)) {
    auto opening = Connection::open(options_.target, timeout.token());
    Result<Pointer> connection = co_await std::move(opening);
    if (connection) {
      info_ = (*connection)->info();
      may_add_ = (info_.flags & kCanMultiConn) != 0 &&
                 options_.target.address.kind != io::SocketAddress::Kind::kFd;
      connections_.push_back(std::move(*connection));
      co_return Result<void>();
    }
    if (!again || timeout.cancelled()) {
      co_return pass(connection);
    }
    auto sleeping = io::sleep_for(pause, timeout.token());
    const bool slept = co_await sleeping;
    if (!slept) {
      co_return pass(connection);
    }
  }
}

// The connection with the least to do; null when there is none.
Session::Pointer Session::pick() {
  for (std::size_t i = connections_.size(); i-- != 0;) {
    if (!connections_[i]->alive()) {
      retire(Pointer(connections_[i]));
    }
  }
  const auto least = std::ranges::min_element(
      connections_, {}, [](const Pointer& connection) { return connection->load(); });
  if (least == connections_.end()) {
    return nullptr;
  }
  if ((*least)->load() >= kEnoughForOne && may_add_ && !adding_ &&
      connections_.size() < kMaxConnections) {
    Pointer chosen = *least;
    adding_ = true;
    tasks_.spawn(add_connection());
    return chosen;
  }
  return *least;
}

io::Task<void> Session::add_connection() {
  auto opening = Connection::open(options_.target, closing_.token());
  Result<Pointer> connection = co_await std::move(opening);
  adding_ = false;
  if (connection && !hopeless_ && check_same((*connection)->info())) {
    connections_.push_back(std::move(*connection));
    connected_.set();
    co_return;
  }
  // The server allows no more; what there is has to do.
  may_add_ = false;
  if (connection) {
    auto closing = (*connection)->close();
    co_await std::move(closing);
  }
}

// Takes a connection that broke out of use, and sees to another when it was the last one.
void Session::retire(const Pointer& connection) {
  const auto found = std::ranges::find(connections_, connection);
  if (found == connections_.end()) {
    return;
  }
  reason_ = connection->reason();
  connections_.erase(found);
  tasks_.spawn(bury(connection));
  if (!connections_.empty() || reconnecting_ || hopeless_) {
    return;
  }
  if (options_.target.address.kind == io::SocketAddress::Kind::kFd) {
    hopeless_ = true;
    return;
  }
  lost_at_ = io::Reactor::current().now();
  connected_.reset();
  reconnecting_ = true;
  tasks_.spawn(reconnect());
}

io::Task<void> Session::bury(Pointer connection) {
  auto closing = connection->close();
  co_await std::move(closing);
}

// What has been promised to those who use the node has to hold on.
Result<void> Session::check_same(const ExportInfo& info) const {
  const bool fewer_features = (info_.flags & ~info.flags & ~kCanMultiConn & ~kReadOnly) != 0;
  const bool read_only = (info.flags & ~info_.flags & kReadOnly) != 0;
  if (info.size != info_.size || fewer_features || read_only ||
      info.context.has_value() != info_.context.has_value() || info.extended != info_.extended ||
      info.min_block > std::max(info_.min_block, 1U) || info.max_block < info_.max_block) {
    return fail(EIO, "The server offers another export than before");
  }
  return {};
}

io::Task<void> Session::reconnect() {
  for (io::Duration pause = kFirstPause; !hopeless_; pause = std::min(2 * pause, kLongestPause)) {
    auto opening = Connection::open(options_.target, closing_.token());
    Result<Pointer> connection = co_await std::move(opening);
    if (connection) {
      const Result<void> same = check_same((*connection)->info());
      if (same && !hopeless_) {
        connections_.push_back(std::move(*connection));
        break;
      }
      if (!same) {
        reason_ = same.error().message();
      }
      hopeless_ = true;
      auto closing = (*connection)->close();
      co_await std::move(closing);
      break;
    }
    auto sleeping = io::sleep_for(pause, closing_.token());
    [[maybe_unused]] const bool slept = co_await sleeping;
  }
  reconnecting_ = false;
  connected_.set();
}

// Waits for a connection as long as requests may wait; whether there may be one.
io::Task<bool> Session::recovered() {
  if (hopeless_) {
    co_return false;
  }
  if (!connections_.empty()) {
    co_return true;
  }
  io::CancelSource timeout;
  const io::TimePoint until = lost_at_ + options_.reconnect_delay;
  if (until <= io::Reactor::current().now()) {
    co_return false;
  }
  const io::Deadline deadline(timeout, until);
  auto waiting = connected_.wait(timeout.token());
  const bool connected = co_await waiting;
  co_return connected && !hopeless_;
}

io::Task<Result<void>> Session::run(Exchange& exchange) {
  for (;;) {
    const Pointer connection = pick();
    if (connection != nullptr) {
      auto running = connection->run(exchange);
      co_await std::move(running);
      if (!exchange.lost) {
        break;
      }
      retire(connection);
      if (options_.reconnect_delay.count() == 0) {
        co_return fail(EIO, "The connection to the NBD server at '{}' was lost: {}", server(),
                       connection->reason());
      }
    }
    auto recovering = recovered();
    const bool again = co_await std::move(recovering);
    if (!again) {
      co_return fail(EIO, "There is no connection to the NBD server at '{}': {}", server(),
                     reason_);
    }
    exchange.reset();
  }
  if (exchange.error == 0) {
    co_return Result<void>();
  }
  if (exchange.message.empty()) {
    co_return fail_errno(exchange.error, "The NBD server at '{}' reports an error", server());
  }
  co_return fail(exchange.error, "The NBD server at '{}' reports: {}", server(), exchange.message);
}

io::Task<void> Session::close() {
  hopeless_ = true;
  closing_.cancel();
  while (!connections_.empty()) {
    const Pointer connection = connections_.back();
    connections_.pop_back();
    auto closing = connection->close();
    co_await std::move(closing);
  }
  auto joining = tasks_.join();
  co_await std::move(joining);
}

}  // namespace cairn::nbd::client
