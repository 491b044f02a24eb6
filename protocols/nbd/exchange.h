// Exchange: one request to a server and what came back for it.
#pragma once

#include <cstdint>
#include <string>

#include "base/nbd_protocol.h"
#include "io/event.h"
#include "io/iovector.h"
#include "protocols/nbd/coverage.h"

namespace cairn::nbd::client {

struct Exchange {
  Exchange(Command what, uint64_t at, uint64_t count) : command(what), offset(at), length(count) {}

  // The request. `flags` are "Command flags".
  Command command;
  uint16_t flags = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  // `length` bytes to fill (kRead) or to send (kWrite). The memory is not touched any more once the
  // connection says that the exchange is over.
  io::IoVector data;

  // What the server answered: an errno, 0 for success, and its words about it.
  int error = 0;
  std::string message;
  // kBlockStatus: the first extent, in the meta context that was agreed on; a length of 0 is none.
  uint64_t extent_length = 0;
  uint64_t extent_flags = 0;
  // The connection broke before the answer was complete: what became of the request is not known.
  bool lost = false;

  // Makes it fit for being sent once more.
  void reset() {
    error = 0;
    message.clear();
    extent_length = extent_flags = 0;
    lost = false;
    coverage.clear();
    sending = replied = false;
    done.reset();
  }

  // The connection's books.
  uint64_t cookie = 0;
  Coverage coverage;     // kRead: relative to `offset`
  bool sending = false;  // the connection still reads from `data`, or will
  bool replied = false;
  io::Event done;  // both are settled
};

}  // namespace cairn::nbd::client
