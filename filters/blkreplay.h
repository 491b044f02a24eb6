// blkreplay: carries requests out one after the other, in the order in which they came, so that the
// same requests come back in the same order every time.
#pragma once

#include "block/driver_table.h"

namespace cairn::filters {

extern const block::DriverInfo kBlkreplayDriver;

}  // namespace cairn::filters
