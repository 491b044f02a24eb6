#include "exports/nbd/connection.h"

#include <utility>

#include "exports/nbd/station.h"
#include "io/call_on.h"

namespace cairn::nbd {

Connection::Connection(io::Stream stream, const ExportList& exports, const Gate& gate)
    : stream_(std::move(stream)), exports_(exports), gate_(gate) {}

io::Task<void> Connection::run() {
  const bool ready = co_await handshake();
  if (ready) {
    // Where the client is served, which is here unless the export has an I/O thread.
    auto transmitting = io::call_on(
        export_->station().reactor(), [this](io::CancelToken token) { return transmit(token); },
        stopping_.token());
    co_await transmitting;
  }
  if (export_ != nullptr) {
    std::exchange(export_, nullptr)->leave(*this);
  }
  stream_.say_goodbye();
}

// On the station's thread, where all of the transmission is made and destroyed.
io::Task<void> Connection::transmit(io::CancelToken token) {
  Transmission transmission(stream_, *export_, terms_, export_->station());
  co_await transmission.run(token);
}

void Connection::stop() {
  handshake_cancel_.cancel();
  stopping_.cancel();
}

}  // namespace cairn::nbd
