// The compress filter: writes whole clusters, compressed.
#pragma once

#include "block/driver_table.h"

namespace cairn::filters {

extern const block::DriverInfo kCompressDriver;

}  // namespace cairn::filters
