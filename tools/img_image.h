// What the subcommands of cairn-img that look at one image have in common on their command lines.
#pragma once

#include <optional>

#include "block/graph.h"
#include "tools/common_image.h"
#include "tools/img.h"

namespace cairn::tools {

// Each subcommand sets `flags` to what it needs before it reads its options.
struct ImageRequest {
  ImageName image;
  block::OpenFlags flags;
  bool json = false;
  bool quiet = false;
};

enum class OptionUse : uint8_t {
  kTaken,
  kOther,    // it is the subcommand's own affair
  kRefused,  // its value is wrong, which was told
};

// Takes -f, -U, -q, --image-opts and --output.
[[nodiscard]] OptionUse take_image_option(const ParsedOption& option, ImageRequest& request);

// Takes the image's name from the operands. The exit code when there is not one name, or when the
// options contradict each other.
[[nodiscard]] std::optional<int> take_image_name(const ImgCommandLine& line, ImageName& image);

}  // namespace cairn::tools
