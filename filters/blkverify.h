// blkverify: writes to two nodes and compares what they return. When they differ it says where and
// ends the program.
#pragma once

#include "block/driver_table.h"

namespace cairn::filters {

extern const block::DriverInfo kBlkverifyDriver;

}  // namespace cairn::filters
