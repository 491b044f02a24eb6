// Showing what is known about an image, to people and to programs.
#pragma once

#include <string>

#include "schema/json.h"

namespace cairn::schema {
struct BlockGraphInfo;
struct ImageInfoSpecific;
}  // namespace cairn::schema

namespace cairn::tools {

// Members in the order in which the peer prints them, which scripts have come to rely on.
[[nodiscard]] schema::JsonValue in_usual_order(schema::JsonValue value);

// The lines of `info` for one image and its children.
[[nodiscard]] std::string info_text(const schema::BlockGraphInfo& info);

// "Format specific information:" and what belongs below it; empty when there is nothing to say.
[[nodiscard]] std::string specific_info_text(const schema::ImageInfoSpecific& specific);

}  // namespace cairn::tools
