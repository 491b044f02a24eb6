// The VMDK format: a descriptor, and extents that hold the disk as it is or in grains.
#pragma once

#include "block/driver_table.h"

namespace cairn::vmdk {

extern const block::DriverInfo kVmdkDriver;

}  // namespace cairn::vmdk
