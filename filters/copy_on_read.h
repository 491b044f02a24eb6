// The copy-on-read filter: what is read from backing images is kept in the image.
#pragma once

#include "block/driver_table.h"

namespace cairn::filters {

extern const block::DriverInfo kCopyOnReadDriver;

}  // namespace cairn::filters
