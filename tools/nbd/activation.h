// The socket that a service manager passes, as cairn-nbd takes it.
#pragma once

#include <optional>

#include "base/result.h"
#include "tools/nbd/options.h"

namespace cairn::tools {

// The passed socket, if there is one; the environment is cleared of it. Fails when there are
// several, and when the options name another place to listen.
[[nodiscard]] Result<std::optional<int>> take_passed_socket(const NbdOptions& options);

}  // namespace cairn::tools
