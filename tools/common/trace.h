// -T/--trace of the programs that have no trace points.
#pragma once

#include <string_view>

#include "base/result.h"

namespace cairn::tools {

enum class TraceWish : uint8_t {
  kReport,  // events; there are none to be reported, which was told of those that are named
  kList,    // the names of all events: an empty list
};

// Takes "[[enable=]PATTERN][,events=FILE][,file=FILE]". Warns of each event that is named, since
// none exists; a pattern with * names none.
[[nodiscard]] Result<TraceWish> take_trace(std::string_view text);

// The same for a program's options: tells what is wrong. False when the program is to end with
// `exit_code`.
[[nodiscard]] bool take_trace_option(std::string_view text, int& exit_code);

}  // namespace cairn::tools
