// chaos: delays requests to another node, mixes them up and lets them fail, by chance and from a
// seed. Cairn's own: see docs/decisions/0050-chaos.md.
#pragma once

#include "block/driver_table.h"

namespace cairn::filters {

extern const block::DriverInfo kChaosDriver;

}  // namespace cairn::filters
