// cairn-nbd -L: what another server serves.
#pragma once

#include <span>
#include <string>

#include "protocols/nbd/negotiation.h"
#include "tools/nbd/options.h"

namespace cairn::tools {

// The lines for all exports of a server.
[[nodiscard]] std::string export_list_text(std::span<const nbd::client::ListedExport> exports);

// Asks the server that the options name; prints the answer. The exit code.
[[nodiscard]] int list_exports(const NbdOptions& options);

}  // namespace cairn::tools
