// blkdebug: lets requests to another node fail, by rules and at moments of the work of the format
// above it. For tests.
#pragma once

#include "block/driver_table.h"

namespace cairn::filters {

extern const block::DriverInfo kBlkdebugDriver;

}  // namespace cairn::filters
