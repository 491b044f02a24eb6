// What a command returned, laid out for people.
#pragma once

#include <string>
#include <string_view>

#include "schema/json.h"
#include "tools/ctl/text.h"

namespace cairn::ctl {

// Lists of objects become a table where that fits, else an entry of several lines each; `command`
// chooses the columns that matter most. `all`: leave nothing out. Ends with a line break, unless
// there is nothing to say.
[[nodiscard]] std::string show(const schema::JsonValue& value, std::string_view command,
                               const Style& style, bool all);

// A scalar as it stands in a line: clean, strings without quotes.
[[nodiscard]] std::string show_scalar(const schema::JsonValue& value);

}  // namespace cairn::ctl
