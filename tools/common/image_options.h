// The options of an image as objects: from lists of options and "json:" names, and on their way to
// what the schema has for them.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "block/graph.h"
#include "schema/json.h"
#include "schema/types_block_options.h"

namespace cairn::tools {

// The member `name` when it is a text; else null.
[[nodiscard]] const std::string* text_of(const schema::JsonObject& object, std::string_view name);

// What errors about the image below another begin with.
inline constexpr std::string_view kAboutBacking = "Could not open backing file: ";

// The driver that the options name; null when they name none that there is.
[[nodiscard]] const block::DriverInfo* driver_of(const block::Graph& graph,
                                                 const schema::JsonObject& options);

// Adds a member in place of the one that is there.
void put(schema::JsonObject& object, std::string_view name, schema::JsonValue value);

// "json:{…}" as a list of options. Dots in names lead into objects.
[[nodiscard]] Result<schema::JsonObject> parse_json_name(std::string_view name);

// "driver=raw,file.filename=…". What comes first without '=' is the value of `implied_key`; when
// that is empty it is an option of the old form, and on, which is told.
[[nodiscard]] Result<schema::JsonObject> parse_option_string(std::string_view text,
                                                             std::string_view implied_key);

// Sizes as numbers, and the short forms of old as what they stand for.
[[nodiscard]] Result<void> normalize_options(schema::JsonObject& object);

// The options of one node and what is below it. Errors are in the words that command lines know.
[[nodiscard]] Result<schema::BlockdevOptions> decode_options(const block::Graph& graph,
                                                             const schema::JsonObject& object);

// That the driver of an option does not have it. `path` leads to it from `root`, the options of an
// image: "file.nosuch".
[[nodiscard]] Error unknown_option(const block::Graph& graph, const schema::JsonObject& root,
                                   std::string_view path);

// The option that "Block … does not support the option 'NAME'" is about; nothing for other errors,
// and for options of a backing file.
[[nodiscard]] std::string unknown_option_of(const Error& error);

}  // namespace cairn::tools
