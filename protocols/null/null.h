// null-co and null-aio: devices of a given size that keep nothing. For measuring what the layers
// above cost, and for tests.
#pragma once

#include "block/driver_table.h"

namespace cairn::null {

extern const block::DriverInfo kNullCoDriver;
extern const block::DriverInfo kNullAioDriver;

}  // namespace cairn::null
