// What cairn-nbd says about itself.
#pragma once

#include <string>

namespace cairn::tools {

void print_nbd_help();

// The lines of --version.
[[nodiscard]] std::string nbd_version_text();

}  // namespace cairn::tools
