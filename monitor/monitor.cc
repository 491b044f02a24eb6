// A name may resolve to several addresses; each has its own listener, and all take turns.
#include "monitor/monitor.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "io/task_group.h"
#include "io/timer.h"
#include "monitor/session.h"

namespace cairn::monitor {

io::Task<void> Monitor::run(io::CancelToken token) {
  io::TaskGroup listening;
  if (chardev_.kind() == ChardevSettings::Kind::kStdio) {
    Connection connection(STDIN_FILENO, STDOUT_FILENO);
    co_await serve(std::move(connection), token);
  } else if (chardev_.has_stream()) {
    Connection connection(chardev_.take_stream());
    listening.spawn(serve(std::move(connection), token));
  }
  for (const io::Listener& listener : chardev_.listeners()) {
    listening.spawn(accept_clients(listener, token));
  }
  co_await listening.join();
}

io::Task<void> Monitor::serve(Connection connection, io::CancelToken token) {
  const auto turn = co_await turn_.lock();
  if (token.cancelled()) {
    co_return;
  }
  Session session(services_, connection, pretty_);
  co_await session.run(token);
}

io::Task<void> Monitor::accept_clients(const io::Listener& listener, io::CancelToken token) {
  // Some failures, such as running out of descriptors, last a while.
  constexpr std::chrono::milliseconds kPause(100);
  while (!token.cancelled()) {
    Result<io::Stream> stream = co_await listener.accept(token);
    if (stream) {
      Connection connection(std::move(*stream));
      co_await serve(std::move(connection), token);
    } else if (stream.error().code() != ECANCELED) {
      const bool woken = co_await io::sleep_for(kPause, token);
      static_cast<void>(woken);
    }
  }
}

}  // namespace cairn::monitor
