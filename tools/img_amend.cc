// cairn-img amend
#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "block/create_options.h"
#include "block/driver_table.h"
#include "tools/common_create.h"
#include "tools/common_image.h"
#include "tools/common_progress.h"
#include "tools/common_report.h"
#include "tools/common_session.h"
#include "tools/drivers.h"
#include "tools/img.h"

namespace cairn::tools {
namespace {

struct AmendRequest {
  ImageName image;
  std::string options;
  CacheMode cache;
  bool progress = false;
  bool quiet = false;
};

Result<void> amendable(const block::DriverInfo& driver) {
  if (driver.amend_options.empty()) {
    return fail(ENOTSUP, "Format driver '{}' does not support option amendment", driver.name);
  }
  return {};
}

int print_amend_help(const AmendRequest& request) {
  block::DriverTable drivers = all_drivers();
  const block::DriverInfo* driver = drivers.find(request.image.format);
  if (driver == nullptr) {
    report_error(fmt::format("Unknown file format '{}'", request.image.format));
    return 1;
  }
  if (const auto possible = amendable(*driver); !possible) {
    return fail_command(possible.error());
  }
  fmt::print("Amend options for '{}':\n", driver->name);
  print_options({driver->amend_options.begin(), driver->amend_options.end()});
  return 0;
}

Result<block::CreateOptions> parse_amendment(const block::DriverInfo& driver,
                                             const std::string& list) {
  if (auto possible = amendable(driver); !possible) {
    return std::unexpected(possible.error());
  }
  block::CreateOptions options(driver.amend_options);
  if (auto parsed = parse_option_list(list, options); !parsed) {
    const std::string& message = parsed.error().message();
    for (const block::CreateOptionInfo& info : driver.create_options) {
      if (message == fmt::format("Invalid parameter '{}'", info.name)) {
        return fail(EINVAL, "{}\nThis option is only supported for image creation", message);
      }
    }
    return std::unexpected(parsed.error());
  }
  return options;
}

// Version 2 can not change its size once it has snapshots, so the size comes while it is version 3.
io::Task<Result<void>> change(block::Edge& root, const block::CreateOptions& options) {
  const std::optional<uint64_t> size = options.number("size");
  const std::string compat = options.string("compat").value_or("");
  const bool size_first = compat == "0.10" || compat == "v2";
  Result<void> result;
  if (size && size_first) {
    result = co_await root.resize(*size);
  }
  if (result) {
    result = co_await root.amend(options);
  }
  if (result && size && !size_first) {
    result = co_await root.resize(*size);
  }
  co_return result;
}

io::Task<Result<void>> amend_image(block::Graph& graph, block::Edge& root,
                                   const AmendRequest& request) {
  const Result<block::CreateOptions> options = parse_amendment(root.node().info(), request.options);
  if (!options) {
    co_return std::unexpected(options.error());
  }
  block::Permissions permissions = root.permissions();
  permissions.used |= block::PermissionSet::kResize;
  if (const auto granted = graph.set_permissions(root, permissions); !granted) {
    co_return std::unexpected(granted.error());
  }
  ProgressLine progress(request.quiet      ? ProgressLine::Show::kNever
                        : request.progress ? ProgressLine::Show::kAlways
                                           : ProgressLine::Show::kOnSignal);
  progress.update(0, 1);
  Result<void> amended = co_await change(root, *options);
  if (amended) {
    progress.update(1, 1);
  }
  progress.finish();
  if (!amended && amended.error().message() == "Cannot amend the backing file") {
    co_return fail(amended.error().code(),
                   "Cannot amend the backing file\nYou can use '{} rebase' instead.",
                   program_name());
  }
  co_return amended;
}

io::Task<int> run(block::Graph& graph, const AmendRequest& request) {
  const block::OpenFlags flags{.cache_direct = request.cache.direct,
                               .no_flush = request.cache.no_flush};
  auto root = co_await open_root(graph, request.image, flags);
  if (!root) {
    co_return fail_command(root.error());
  }
  Result<void> result = co_await amend_image(graph, **root, request);
  Result<void> closed = co_await graph.detach(std::move(*root));
  result = result ? std::move(closed) : std::move(result);
  co_return result ? 0 : fail_command(result.error());
}

// The exit code when there is nothing more to do.
std::optional<int> take_amend_option(const ParsedOption& option, AmendRequest& request) {
  if (option.id == 'f') {
    request.image.format = option.value;
  } else if (option.id == kOptImageOpts) {
    request.image.by_options = true;
  } else if (option.id == 'p') {
    request.progress = true;
  } else if (option.id == 'q') {
    request.quiet = true;
  } else if (option.id == 'o') {
    if (const auto taken = append_option_list(request.options, option.value); !taken) {
      return fail_command(taken.error());
    }
  } else if (option.id == 't') {
    const auto mode = parse_cache_mode(option.value);
    if (!mode) {
      report_error(fmt::format("Invalid cache option: {}", option.value));
      return 1;
    }
    request.cache = *mode;
  }
  // Nothing here is dangerous enough to need --force.
  return std::nullopt;
}

}  // namespace

int img_amend(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kQuietOption,
                                 kProgressOption,
                                 kFormatOption,
                                 kObjectOption,
                                 kImageOptsOption,
                                 OptionSpec{'o', "options", true},
                                 OptionSpec{'t', "cache", true},
                                 OptionSpec{kOptForce, "force", false}};
  AmendRequest request;
  ImgCommandLine line("amend", arguments, kSpecs);
  while (const auto option = line.next()) {
    if (const auto code = take_amend_option(*option, request)) {
      return *code;
    }
  }
  if (line.exit_code()) {
    return *line.exit_code();
  }
  if (request.options.empty()) {
    return line.misuse("Must specify options (-o)");
  }
  if (asks_for_help(request.options) && !request.image.format.empty()) {
    return print_amend_help(request);
  }
  const std::vector<std::string> operands = line.operands();
  if (operands.size() != 1) {
    report_error("Expecting one image file name");
    return 1;
  }
  request.image.text = operands.front();
  if (request.image.by_options && !request.image.format.empty()) {
    report_error("--image-opts and --format are mutually exclusive");
    return 1;
  }
  auto session = Session::create();
  if (!session) {
    return fail_command(session.error());
  }
  return (*session)->run(run((*session)->graph(), request));
}

}  // namespace cairn::tools
