// replication: what a disk that is kept the same on two hosts stands behind, while nothing has
// started to do so.
#pragma once

#include "block/driver_table.h"

namespace cairn::filters {

extern const block::DriverInfo kReplicationDriver;

}  // namespace cairn::filters
