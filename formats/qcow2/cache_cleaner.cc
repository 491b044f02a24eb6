#include "formats/qcow2/cache_cleaner.h"

namespace cairn::qcow2 {

void CacheCleaner::start(io::Duration interval) {
  stop();
  interval_ = interval;
  if (interval_ > io::Duration::zero()) {
    arm();
  }
}

void CacheCleaner::stop() {
  if (interval_ > io::Duration::zero()) {
    io::Reactor::current().remove_timer(*this);
    interval_ = io::Duration::zero();
  }
}

void CacheCleaner::arm() {
  io::Reactor& reactor = io::Reactor::current();
  reactor.add_timer(*this, reactor.now() + interval_);
}

void CacheCleaner::on_expired() {
  mapping_.forget_unused();
  refcounts_.forget_unused();
  arm();
}

}  // namespace cairn::qcow2
