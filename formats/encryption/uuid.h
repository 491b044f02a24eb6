// UUIDs of new volumes.
#pragma once

#include <string>

#include "base/result.h"

namespace cairn::encryption {

// A random one (RFC 4122, version 4), as text.
[[nodiscard]] Result<std::string> make_uuid();

}  // namespace cairn::encryption
