// The raw format: a file's content as it is, or a window of it.
#pragma once

#include "block/driver_table.h"

namespace cairn::raw {

extern const block::DriverInfo kRawDriver;

}  // namespace cairn::raw
