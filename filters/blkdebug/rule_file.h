// Files with rules, as `config` names them:
//
//     [inject-error]
//     event = "read_aio"
//     errno = "28"
//
// Groups are "inject-error" and "set-state", their members those of the options with these names.
// Lines that begin with '#' say nothing.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "filters/blkdebug/rules.h"

namespace cairn::filters::blkdebug {

// Adds the rules of a text.
[[nodiscard]] Result<void> parse_rules(std::string_view text, Rules& rules);
// The same from a file, of at most 1 MiB.
[[nodiscard]] Result<void> read_rule_file(const std::string& path, Rules& rules);

}  // namespace cairn::filters::blkdebug
