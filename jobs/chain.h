// Backing chains as jobs see them: which image is above which, whatever filters stand between.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "block/node.h"

namespace cairn::jobs {

// The node itself, or what the filters on top of it stand above.
[[nodiscard]] std::shared_ptr<block::Node> below_filters(std::shared_ptr<block::Node> node);

// What is behind an image, with filters and without; null when it is the last one.
[[nodiscard]] std::shared_ptr<block::Node> behind(const block::Node& image);
[[nodiscard]] std::shared_ptr<block::Node> image_behind(const block::Node& image);

// Whether `node`, filter or image, is somewhere behind `top`, or is `top`, or one of its filters.
[[nodiscard]] bool in_chain(const block::Node& top, const block::Node& node);

// The image of the chain of `top` that is directly above `node`, which is in it; null: none is.
[[nodiscard]] std::shared_ptr<block::Node> image_above(std::shared_ptr<block::Node> top,
                                                       const block::Node& node);

// The image behind `top` with that filename, as the nodes know it or as it leads to the same file;
// null when there is none.
[[nodiscard]] std::shared_ptr<block::Node> find_behind(const block::Node& top,
                                                       std::string_view filename);

// Whether two filenames lead to the same image, as far as names tell.
[[nodiscard]] bool same_image(std::string_view one, std::string_view other);

}  // namespace cairn::jobs
