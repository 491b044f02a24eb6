// The throttle filter: keeps requests within the limits of a throttle group.
#pragma once

#include "block/driver_table.h"

namespace cairn::filters {

extern const block::DriverInfo kThrottleDriver;

}  // namespace cairn::filters
