// quorum: several nodes that are written to together, and vote on what they hold.
#pragma once

#include "block/driver_table.h"

namespace cairn::filters {

extern const block::DriverInfo kQuorumDriver;

}  // namespace cairn::filters
