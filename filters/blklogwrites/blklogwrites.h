// blklogwrites: writes down what is written to another node, in the format of the kernel's
// dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst), for tools that replay it.
#pragma once

#include "block/driver_table.h"

namespace cairn::filters {

extern const block::DriverInfo kBlklogwritesDriver;

}  // namespace cairn::filters
