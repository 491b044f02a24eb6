// The preallocate filter: lets the file below grow ahead of what is written.
#pragma once

#include "block/driver_table.h"

namespace cairn::filters {

extern const block::DriverInfo kPreallocateDriver;

}  // namespace cairn::filters
