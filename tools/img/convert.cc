// cairn-img convert: its command line.
#include "tools/img/convert.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include <fmt/format.h>

#include "base/sector.h"
#include "tools/common/create.h"
#include "tools/common/drivers.h"
#include "tools/common/interrupt.h"
#include "tools/common/report.h"
#include "tools/img/image.h"
#include "tools/img/img.h"

namespace cairn::tools {
namespace {

constexpr uint64_t kLargestSparseSize = 16u << 20;
constexpr unsigned kMostParallel = 16;

constexpr std::array kConvertSpecs = {
    kHelpOption,
    kQuietOption,
    OptionSpec{'p', nullptr, false},
    OptionSpec{kOptProgress, "progress", false, true},
    kShareOption,
    kObjectOption,
    kPolicyOption,
    kImageOptsOption,
    OptionSpec{'f', "source-format", true},
    OptionSpec{'T', "source-cache", true},
    OptionSpec{'l', "snapshot", true},
    OptionSpec{'O', "target-format", true},
    OptionSpec{kOptTargetImageOpts, "target-image-opts", false},
    OptionSpec{'o', "target-format-options", true},
    OptionSpec{'t', "target-cache", true},
    OptionSpec{'b', "backing", true},
    OptionSpec{'B', nullptr, true},
    OptionSpec{'F', "backing-format", true},
    OptionSpec{'n', "no-create", false},
    OptionSpec{kOptTargetIsZero, "target-is-zero", false},
    OptionSpec{'S', "sparse-size", true},
    OptionSpec{'m', "parallel", true},
    OptionSpec{'W', "oob", false},
    OptionSpec{'r', "rate-limit", true},
    OptionSpec{kOptSalvage, "salvage", false},
    OptionSpec{'C', "copy-range-offloading", false},
    OptionSpec{'c', "compress", false},
    OptionSpec{kOptCompressionLevel, "compression-level", true, false, true},
    OptionSpec{kOptBitmaps, "bitmaps", false},
    OptionSpec{kOptSkipBrokenBitmaps, "skip-broken-bitmaps", false},
    OptionSpec{kOptVerify, "verify", false, false, true},
    OptionSpec{kOptResume, "resume", false, false, true},
    OptionSpec{kOptCacheLimit, "cache-limit", true, false, true}};

Result<void> parse_sparse_size(const std::string& text, ConvertRequest& request) {
  const auto size = parse_size_argument("buffer size for sparse output", text);
  if (!size) {
    return std::unexpected(size.error());
  }
  if (*size % kSector != 0 || *size > kLargestSparseSize) {
    return fail(EINVAL,
                "Invalid buffer size for sparse output specified. Valid sizes are multiples of {} "
                "up to {}. Select 0 to disable sparse detection (fully allocates output).",
                kSector, kLargestSparseSize);
  }
  request.sparse_size = *size;
  request.sparse_size_given = true;
  return {};
}

Result<void> parse_level(const std::string& text, ConvertRequest& request) {
  unsigned level = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), level);
  if (error != std::errc{} || end != text.data() + text.size() || level < 1) {
    return fail(EINVAL, "Invalid compression level '{}'", text);
  }
  request.compression_level = level;
  return {};
}

// A number without what may stand before it.
std::string_view without_lead(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t\n\v\f\r"), text.size()));
  text.remove_prefix(text.starts_with('+') ? 1 : 0);
  return text;
}

Result<void> parse_parallel(const std::string& text, ConvertRequest& request) {
  unsigned count = 0;
  const std::string_view number = without_lead(text);
  const char* const stop = number.data() + number.size();
  const auto [end, error] = std::from_chars(number.data(), stop, count);
  if (error != std::errc{} || end != stop || count < 1 || count > kMostParallel) {
    return fail(EINVAL,
                "Invalid number of coroutines. Allowed number of coroutines is between 1 and {}",
                kMostParallel);
  }
  request.parallel = count;
  return {};
}

// The form of -t and -T; false for a mode that is none.
bool parse_cache(const std::string& text, CacheMode& mode) {
  const auto parsed = parse_cache_mode(text);
  mode = parsed ? *parsed : mode;
  return parsed.has_value();
}

// Options whose value has a form of its own.
Result<void> take_value(const ParsedOption& option, ConvertRequest& request) {
  switch (option.id) {
    case 't':
      request.target_cache_given = true;
      request.wrong_target_cache.reset();
      if (!parse_cache(option.value, request.target_cache)) {
        request.wrong_target_cache = option.value;
      }
      return {};
    case 'o':
      return append_option_list(request.options, option.value);
    case 'S':
      return parse_sparse_size(option.value, request);
    case 'm':
      return parse_parallel(option.value, request);
    case 'r': {
      const auto rate = parse_size_argument("rate limit", option.value);
      if (!rate) {
        return std::unexpected(rate.error());
      }
      request.rate_limit = *rate;
      return {};
    }
    case kOptCacheLimit: {
      const auto limit = parse_size_argument("cache limit", option.value);
      if (!limit) {
        return std::unexpected(limit.error());
      }
      request.cache_limit = *limit;
      return {};
    }
    case kOptCompressionLevel:
      return parse_level(option.value, request);
    case kOptProgress:
      request.progress = true;
      if (!option.value.empty() && option.value != "json") {
        return fail(EINVAL, "--progress takes no value but json, not '{}'", option.value);
      }
      request.progress_json = !option.value.empty();
      return {};
    case 'l': {
      auto choice = parse_snapshot_choice(option.value);
      if (!choice) {
        return std::unexpected(choice.error());
      }
      request.snapshot = std::move(*choice);
      return {};
    }
    case 'O':
      request.target.give_format(option.value);
      request.target_format_given = true;
      return {};
    case 'b':
    case 'B':
      request.backing = option.value;
      return {};
    case 'F':
      request.backing_format = option.value;
      return {};
  }
  return {};
}

void take_flag(int id, ConvertRequest& request) {
  bool* flag = nullptr;
  switch (id) {
    case 'q':
      flag = &request.quiet;
      break;
    case 'p':
      flag = &request.progress;
      break;
    case 'U':
      flag = &request.force_share;
      break;
    case kOptTargetImageOpts:
      flag = &request.target.by_options;
      break;
    case kOptTargetIsZero:
      flag = &request.target_is_zero;
      break;
    case 'W':
      flag = &request.any_order;
      break;
    case kOptSalvage:
      flag = &request.salvage;
      break;
    case 'C':
      flag = &request.copy_offloading;
      break;
    case 'c':
      flag = &request.compress;
      break;
    case kOptBitmaps:
      flag = &request.bitmaps;
      break;
    case kOptVerify:
      flag = &request.verify;
      break;
    case kOptResume:
      flag = &request.resume;
      break;
    case kOptSkipBrokenBitmaps:
      flag = &request.skip_broken_bitmaps;
      break;
    case 'n':
      request.create = false;
      break;
  }
  if (flag != nullptr) {
    *flag = true;
  }
}

// Combinations that make no sense, in the order in which the field tells them.
std::string_view contradiction(const ConvertRequest& request) {
  if (request.skip_broken_bitmaps && !request.bitmaps) {
    return "Use of --skip-broken-bitmaps requires --bitmaps";
  }
  if (request.compression_level != 0 && (!request.compress || request.target.format != "qcow2")) {
    return "--compression-level is for -c with qcow2";
  }
  if (request.compression_level != 0 && !request.create) {
    return "with -n the compression level is one of the options of --target-image-opts";
  }
  if (request.copy_offloading && request.compress) {
    return "Cannot enable copy offloading when -c is used";
  }
  if (request.copy_offloading && request.sparse_size_given) {
    return "Cannot enable copy offloading when -S is used";
  }
  if (request.copy_offloading && request.salvage) {
    return "Cannot use copy offloading in salvaging mode";
  }
  if (request.verify && request.salvage) {
    return "Cannot use --verify in salvaging mode";
  }
  if (request.resume && (!request.create || request.backing || request.bitmaps ||
                         request.copy_offloading || request.sparse_size == 0)) {
    return "Cannot use --resume with -n, -B, -C, -S 0 or --bitmaps";
  }
  if (!request.create && !request.options.empty()) {
    return "-o has no effect when skipping image creation";
  }
  if (!request.create && request.target_is_zero && request.backing) {
    return "Cannot use --target-is-zero when the destination image has a backing file";
  }
  if (request.create && request.target.by_options) {
    return "--target-image-opts requires use of -n flag";
  }
  if (request.create && request.target_is_zero) {
    return "--target-is-zero requires use of -n flag";
  }
  return {};
}

// Reads everything into `request`; the exit code when there is nothing more to do.
std::optional<int> read_command_line(std::span<const std::string> arguments,
                                     ConvertRequest& request) {
  ImgCommandLine line("convert", arguments, kConvertSpecs);
  ImageName source;
  std::optional<std::string> source_cache;
  while (const auto option = line.next()) {
    if (option->id == 'f') {
      source.give_format(option->value);
    } else if (option->id == 'T') {
      source_cache = option->value;
    } else if (option->id == kOptImageOpts) {
      source.by_options = true;
    } else if (const auto taken = take_value(*option, request); !taken) {
      return fail_command(taken.error());
    } else {
      take_flag(option->id, request);
    }
  }
  if (line.exit_code()) {
    return line.exit_code();
  }
  if (!request.target_format_given && !request.target.by_options) {
    request.target.format = "raw";
  }
  if (const std::string_view wrong = contradiction(request); !wrong.empty()) {
    report_error(wrong);
    return 1;
  }
  const std::vector<std::string> operands = line.operands();
  if (asks_for_help(request.options)) {
    block::DriverTable drivers = all_drivers();
    const auto printed = print_creation_help(drivers, request.target.format,
                                             operands.empty() ? "" : operands.back());
    return printed ? 0 : fail_command(printed.error());
  }
  if (operands.size() < 2) {
    report_error("Must specify image file name");
    return 1;
  }
  request.source_cache_given = source_cache.has_value();
  if (source_cache && !parse_cache(*source_cache, request.source_cache)) {
    report_error(fmt::format("Invalid source cache option: {}", *source_cache));
    return 1;
  }
  if (auto code = check_image_name(source)) {
    return code;
  }
  request.target.text = operands.back();
  for (size_t i = 0; i + 1 < operands.size(); ++i) {
    source.text = operands[i];
    request.sources.push_back(source);
  }
  return std::nullopt;
}

}  // namespace

int img_convert(std::span<const std::string> arguments) {
  ConvertRequest request;
  if (const auto code = read_command_line(arguments, request)) {
    return *code;
  }
  const auto signals = Interrupt::watch_signals();
  if (!signals) {
    return fail_command(signals.error());
  }
  auto session = Session::create();
  if (!session) {
    return fail_command(session.error());
  }
  return (*session)->run(convert_images((*session)->graph(), request, *signals));
}

}  // namespace cairn::tools
