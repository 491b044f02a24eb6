// Images that commands make for what they copy.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "block/graph.h"
#include "block/node.h"
#include "io/task.h"
#include "schema/types_block_core.h"

namespace cairn::monitor {

struct NewImage {
  std::string filename;
  std::optional<std::string> format;  // nothing: that of the model; of an image that exists: probed
  schema::NewImageMode mode = schema::NewImageMode::kAbsolutePaths;
  std::optional<std::string> node_name;  // generated unless given
  std::shared_ptr<block::Node> backing;  // what the image names as its backing file; null: nothing
  bool keeps_backing = false;            // an image that exists is opened with its backing file
};

// Makes the image, as large as the model, unless it exists, and opens it. Nobody holds the node.
[[nodiscard]] io::Task<Result<std::shared_ptr<block::Node>>> open_new_image(
    block::Graph& graph, std::shared_ptr<block::Node> model, NewImage wanted);

}  // namespace cairn::monitor
