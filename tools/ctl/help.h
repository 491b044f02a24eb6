// Text about a command: how it is used, and what its arguments are.
#pragma once

#include <string>

#include "tools/ctl/schema.h"

namespace cairn::ctl {

// "blockdev-del node-name=…": optional arguments in brackets.
[[nodiscard]] std::string usage_of(const SchemaCommand& command);

// All arguments with their types, at every depth.
[[nodiscard]] std::string describe_command(const SchemaCommand& command);

}  // namespace cairn::ctl
