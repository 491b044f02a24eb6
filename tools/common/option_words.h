// What is wrong with the options of a node, in the words that the offline tools have for it: the
// interface definition, which the daemon goes by, has others.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "schema/json.h"

namespace cairn::tools {

// A message of schema::read() about options; those with no words of their own stay. `value`: of the
// option that is no number of its type, when the message is about one.
[[nodiscard]] std::string in_words_of_tools(std::string_view message, std::string_view value = "");

// EINVAL: the driver that `options` name needs nodes that they do not speak of; or what they say of
// their number makes no sense.
[[nodiscard]] Result<void> require_children(const schema::JsonObject& options);

}  // namespace cairn::tools
