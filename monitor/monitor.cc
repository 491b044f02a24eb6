#include "monitor/monitor.h"

#include "monitor/session.h"

namespace cairn::monitor {

io::Task<void> Monitor::serve(chardev::Connection& connection, io::CancelToken token) {
  Session session(services_, connection, pretty_);
  co_await session.run(token);
}

}  // namespace cairn::monitor
