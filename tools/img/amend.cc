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
#include "tools/common/create.h"
#include "tools/common/drivers.h"
#include "tools/common/progress.h"
#include "tools/common/report.h"
#include "tools/img/image.h"

namespace cairn::tools {
namespace {

struct AmendRequest : ImageRequest {
  std::string options;
  bool force = false;
  ProgressLine* progress_line = nullptr;  // while it runs
};

Result<void> amendable(const block::DriverInfo& driver) {
  if (driver.amend_options.empty()) {
    return fail(ENOTSUP, "Format driver '{}' does not support option amendment", driver.name);
  }
  return {};
}

Result<void> print_amend_help(const block::DriverInfo& driver) {
  if (auto possible = amendable(driver); !possible) {
    return possible;
  }
  fmt::print("Amend options for '{}':\n", driver.name);
  print_options({driver.amend_options.begin(), driver.amend_options.end()});
  return {};
}

// Help for a format that was named; no image is needed for it.
int print_format_help(const AmendRequest& request) {
  const block::DriverTable drivers = all_drivers();
  const block::DriverInfo* driver = drivers.find(request.image.format);
  if (driver == nullptr) {
    report_error(fmt::format("Unknown file format '{}'", request.image.format));
    return 1;
  }
  const Result<void> printed = print_amend_help(*driver);
  return printed ? 0 : fail_command(printed.error());
}

Result<block::CreateOptions> parse_amendment(const block::DriverInfo& driver,
                                             const std::string& list) {
  if (auto possible = amendable(driver); !possible) {
    return std::unexpected(possible.error());
  }
  block::CreateOptions options(driver.amend_options);
  if (auto parsed = parse_option_list(list, options); !parsed) {
    std::vector<block::CreateOptionInfo> all(driver.create_options.begin(),
                                             driver.create_options.end());
    all.insert(all.end(), driver.amend_options.begin(), driver.amend_options.end());
    block::CreateOptions known(all);
    if (parse_option_list(list, known)) {
      return fail(EINVAL, "{}\nThis option is only supported for image creation",
                  parsed.error().message());
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
  if (asks_for_help(request.options)) {
    co_return print_amend_help(root.node().info());
  }
  Result<block::CreateOptions> options = parse_amendment(root.node().info(), request.options);
  if (!options) {
    co_return std::unexpected(options.error());
  }
  options->set_forced(request.force);
  block::Permissions permissions = root.permissions();
  permissions.used |= block::PermissionSet::kResize;
  if (const auto granted = graph.set_permissions(root, permissions); !granted) {
    co_return std::unexpected(granted.error());
  }
  request.progress_line->update(0, 1);
  Result<void> amended = co_await change(root, *options);
  request.progress_line->update(1, 1);  // it is over, one way or the other
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
  return act_on_image(graph, request, flags, amend_image);
}

// The exit code when there is nothing more to do.
std::optional<int> take_amend_option(const ParsedOption& option, AmendRequest& request) {
  if (take_image_option(option, request) == OptionUse::kTaken) {
    return std::nullopt;
  }
  if (option.id == 'o') {
    if (const auto taken = append_option_list(request.options, option.value); !taken) {
      return fail_command(taken.error());
    }
  } else if (option.id == 't') {
    request.cache_text = option.value;
  } else if (option.id == kOptForce) {
    request.force = true;
  }
  return std::nullopt;
}

// Once the options are read; the exit code.
int amend_one(const ImgCommandLine& line, AmendRequest& request) {
  if (asks_for_help(request.options) && !request.image.format.empty()) {
    return print_format_help(request);
  }
  const std::vector<std::string> operands = line.operands();
  if (operands.size() != 1) {
    report_error("Expecting one image file name");
    return 1;
  }
  request.image.text = operands.front();
  if (const auto code = settle_values(request)) {
    return *code;
  }
  return run_in_session(run, request);
}

}  // namespace

int img_amend(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kQuietOption,
                                 kProgressOption,
                                 kFormatOption,
                                 kObjectOption,
                                 kPolicyOption,
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
  ProgressLine progress(ProgressLine::wanted(request.progress, request.quiet));
  request.progress_line = &progress;
  const int code = amend_one(line, request);
  progress.finish();
  return code;
}

}  // namespace cairn::tools
