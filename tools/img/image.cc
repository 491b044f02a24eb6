#include "tools/img/image.h"

#include <fmt/format.h>

#include "tools/common/report.h"

namespace cairn::tools {

namespace {

// False, with the error told, when there is no such mode. Messages call it `what`.
bool take_cache_mode(std::string_view what, std::string_view text, CacheMode& mode) {
  const auto parsed = parse_cache_mode(text);
  if (!parsed) {
    report_error(fmt::format("Invalid {} option: {}", what, text));
    return false;
  }
  mode = *parsed;
  return true;
}

}  // namespace

OptionUse take_image_option(const ParsedOption& option, ImageRequest& request) {
  switch (option.id) {
    case 'f':
      request.image.give_format(option.value);
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
    case kOptOutput:
      request.output_text = option.value;
      return OptionUse::kTaken;
    default:
      return OptionUse::kOther;
  }
}

std::optional<int> check_image_name(const ImageName& image) {
  if (image.by_options && image.format_given) {
    report_error("--image-opts and --format are mutually exclusive");
    return 1;
  }
  return std::nullopt;
}

std::optional<int> settle_values(ImageRequest& request) {
  if (request.output_text) {
    const auto json = parse_output_is_json(*request.output_text);
    if (!json) {
      return 1;
    }
    request.json = *json;
  }
  if (const auto code = check_image_name(request.image)) {
    return code;
  }
  if (request.cache_text && !take_cache_mode("cache", *request.cache_text, request.cache)) {
    return 1;
  }
  if (request.source_cache_text &&
      !take_cache_mode("source cache", *request.source_cache_text, request.source_cache)) {
    return 1;
  }
  return std::nullopt;
}

std::optional<int> take_image_name(const ImgCommandLine& line, ImageRequest& request) {
  const std::vector<std::string> operands = line.operands();
  if (operands.size() != 1) {
    return line.misuse("Expecting one image file name");
  }
  request.image.text = operands.front();
  return settle_values(request);
}

std::optional<int> read_in_place(ImgCommandLine& line, ImageRequest& request) {
  while (const auto option = line.next()) {
    if (take_image_option(*option, request) == OptionUse::kOther && option->id == 't') {
      request.cache_text = option->value;
    }
  }
  auto code = line.exit_code();
  if (!code) {
    code = take_image_name(line, request);
  }
  request.flags.cache_direct = request.cache.direct;
  request.flags.no_flush = request.cache.no_flush;
  return code;
}

}  // namespace cairn::tools
