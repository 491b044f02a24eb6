#include "exports/vhost_user/ring.h"

namespace cairn::vhost_user {

void Ring::log_written(const Chain& chain) {
  if (setup_.log == nullptr) {
    return;
  }
  // All of it: a request that failed half-way has changed more than it says.
  for (const GuestRange& range : chain.written) {
    setup_.log->mark(range.address, range.length);
  }
}

}  // namespace cairn::vhost_user
