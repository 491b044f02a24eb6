// The drivers that are built into the programs.
#pragma once

#include "block/driver_table.h"

namespace cairn::tools {

void register_all_drivers(block::DriverTable& table);

// The same, as a table of its own.
[[nodiscard]] block::DriverTable all_drivers();

}  // namespace cairn::tools
