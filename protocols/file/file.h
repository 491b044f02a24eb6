// The leaves that do I/O on files and devices of the host.
#pragma once

#include "block/driver_table.h"

namespace cairn::file {

extern const block::DriverInfo kFileDriver;
extern const block::DriverInfo kHostDeviceDriver;

}  // namespace cairn::file
