// The LUKS format: an encrypted disk behind a header with its keys.
#pragma once

#include "block/driver_table.h"

namespace cairn::luks {

extern const block::DriverInfo kLuksDriver;

}  // namespace cairn::luks
