// nbd: the export of an NBD server as a node.
#pragma once

#include "block/driver_table.h"

namespace cairn::nbd::client {

extern const block::DriverInfo kNbdDriver;

}  // namespace cairn::nbd::client
