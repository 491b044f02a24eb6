#include "tools/img_image.h"

#include <fmt/format.h>

#include "tools/common_report.h"

namespace cairn::tools {

OptionUse take_image_option(const ParsedOption& option, ImageRequest& request) {
  switch (option.id) {
    case 'f':
      request.image.format = option.value;
      return OptionUse::kTaken;
    case 'U':
      request.flags.force_share = true;
      return OptionUse::kTaken;
    case 'p':
      request.progress = true;
      return OptionUse::kTaken;
    case 'q':
      request.quiet = true;
      return OptionUse::kTaken;
    case kOptImageOpts:
      request.image.by_options = true;
      return OptionUse::kTaken;
    case kOptOutput: {
      const auto json = parse_output_is_json(option.value);
      if (!json) {
        return OptionUse::kRefused;
      }
      request.json = *json;
      return OptionUse::kTaken;
    }
    default:
      return OptionUse::kOther;
  }
}

std::optional<int> check_image_name(const ImageName& image) {
  if (image.by_options && !image.format.empty()) {
    report_error("--image-opts and --format are mutually exclusive");
    return 1;
  }
  return std::nullopt;
}

std::optional<int> take_image_name(const ImgCommandLine& line, ImageName& image) {
  const std::vector<std::string> operands = line.operands();
  if (operands.size() != 1) {
    return line.misuse("Expecting one image file name");
  }
  image.text = operands.front();
  return check_image_name(image);
}

bool take_cache_mode(std::string_view what, std::string_view text, CacheMode& mode) {
  const auto parsed = parse_cache_mode(text);
  if (!parsed) {
    report_error(fmt::format("Invalid {} option: {}", what, text));
    return false;
  }
  mode = *parsed;
  return true;
}

}  // namespace cairn::tools
