// Opening the image that an object of options describes, as a list of options or a "json:" name
// does.
#pragma once

#include <memory>

#include "base/result.h"
#include "block/graph.h"
#include "io/task.h"
#include "schema/json.h"

namespace cairn::tools {

// Opens the image that `options` describe: parse_option_string() and parse_json_name() make them.
// What is wrong with its file comes before what is wrong with the image. Errors do not repeat the
// image's name.
[[nodiscard]] io::Task<Result<std::shared_ptr<block::Node>>> open_described_image(
    block::Graph& graph, schema::JsonObject options, block::OpenFlags flags);

// The options of the image's file; empty when those of the image are not all there.
[[nodiscard]] schema::JsonObject file_alone(const block::Graph& graph,
                                            const schema::JsonObject& options);

}  // namespace cairn::tools
