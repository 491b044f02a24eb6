// What the monitor says about the program's version.
#pragma once

#include "schema/types_control.h"

namespace cairn::monitor {

// The triple is that of the protocol's reference implementation whose interface we follow, since
// management programs decide by it what they may ask for; `package` names us and our own version.
[[nodiscard]] schema::VersionInfo version_info();

}  // namespace cairn::monitor
