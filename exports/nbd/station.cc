#include "exports/nbd/station.h"

#include <malloc.h>

#include <cassert>

#include "exports/nbd/transmission.h"

namespace cairn::nbd {

Station::~Station() { assert(transmissions_.empty()); }

bool Station::relax() {
  bool all_idle = true;
  for (Transmission* transmission : transmissions_) {
    all_idle &= transmission->relax();
  }
  return all_idle;
}

io::Task<void> Station::tidy() {
  const bool all_idle = relax();
  if (all_idle && !trimmed_) {
    pool_.trim();
    // What sessions of TLS have given back lies between what they keep.
    malloc_trim(0);
  }
  trimmed_ = all_idle;
  co_return;
}

}  // namespace cairn::nbd
