#include "formats/qcow2/cache_cleaner.h"

#include <malloc.h>

#include <cstddef>

namespace cairn::qcow2 {

namespace {

// So many bytes are worth the search for whole pages that the system can have back.
constexpr std::size_t kWorthTrimming = 1 << 20;

}  // namespace

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
  if (mapping_.forget_unused() + refcounts_.forget_unused() >= kWorthTrimming) {
    malloc_trim(0);
  }
  arm();
}

}  // namespace cairn::qcow2
