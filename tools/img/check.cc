// cairn-img check
#include "block/check.h"

#include <array>
#include <cerrno>
#include <cstdio>

#include <fmt/format.h>

#include "schema/json.h"
#include "schema/visit_block_info.h"
#include "tools/common/image.h"
#include "tools/common/info.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/img/image.h"

namespace cairn::tools {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitCorrupt = 2;
constexpr int kExitLeaks = 3;
constexpr int kExitNotSupported = 63;

struct CheckRequest : ImageRequest {
  CheckRequest() { flags = {.read_only = true, .check_only = true}; }

  bool fix_leaks = false;
  bool fix_errors = false;
};

block::CheckOptions check_options(bool fix_leaks, bool fix_errors) {
  return {.fix_leaks = fix_leaks,
          .fix_errors = fix_errors,
          .report =
              [](const std::string& line) {
                std::fflush(stdout);
                fmt::print(stderr, "{}\n", line);
              },
          .complain = [](const Error& error) { report_error(error); }};
}

void print_json(const CheckRequest& request, const block::Node& node,
                const block::CheckResult& result) {
  schema::ImageCheck check;
  check.filename = request.image.text;
  check.format = std::string(node.info().name);
  check.check_errors = result.check_errors;
  check.image_end_offset = result.image_end_offset;
  const auto unless_zero = [](int64_t count) {
    return count != 0 ? std::optional(count) : std::nullopt;
  };
  check.corruptions = unless_zero(result.corruptions);
  check.leaks = unless_zero(result.leaks);
  check.corruptions_fixed = unless_zero(result.corruptions_fixed);
  check.leaks_fixed = unless_zero(result.leaks_fixed);
  if (result.fragmentation) {
    check.total_clusters = unless_zero(result.fragmentation->total_clusters);
    check.allocated_clusters = unless_zero(result.fragmentation->allocated_clusters);
    check.fragmented_clusters = unless_zero(result.fragmentation->fragmented_clusters);
    check.compressed_clusters = unless_zero(result.fragmentation->compressed_clusters);
  }
  fmt::print("{}\n", to_text(in_usual_order(to_json(check)), schema::JsonLayout::kPretty));
}

void print_text(const block::CheckResult& result) {
  if (result.corruptions == 0 && result.leaks == 0 && result.check_errors == 0) {
    fmt::print("No errors were found on the image.\n");
  }
  if (result.corruptions != 0) {
    fmt::print(
        "\n{} errors were found on the image.\n"
        "Data may be corrupted, or further writes to the image may corrupt it.\n",
        result.corruptions);
  }
  if (result.leaks != 0) {
    fmt::print(
        "\n{} leaked clusters were found on the image.\n"
        "This means waste of disk space, but no harm to data.\n",
        result.leaks);
  }
  if (result.check_errors != 0) {
    fmt::print("\n{} internal errors have occurred during the check.\n", result.check_errors);
  }
  if (result.fragmentation && result.fragmentation->total_clusters != 0 &&
      result.fragmentation->allocated_clusters != 0) {
    const auto& clusters = *result.fragmentation;
    const auto percent = [](int64_t part, int64_t whole) {
      return static_cast<double>(part) * 100.0 / static_cast<double>(whole);
    };
    fmt::print("{}/{} = {:.2f}% allocated, {:.2f}% fragmented, {:.2f}% compressed clusters\n",
               clusters.allocated_clusters, clusters.total_clusters,
               percent(clusters.allocated_clusters, clusters.total_clusters),
               percent(clusters.fragmented_clusters, clusters.allocated_clusters),
               percent(clusters.compressed_clusters, clusters.allocated_clusters));
  }
  if (result.image_end_offset.value_or(0) > 0) {
    fmt::print("Image end offset: {}\n", *result.image_end_offset);
  }
}

int finish(const CheckRequest& request, const block::Node& node, const block::CheckResult& result,
           bool repaired) {
  if (repaired && !request.quiet && !request.json) {
    fmt::print(
        "The following inconsistencies were found and repaired:\n\n"
        "    {} leaked clusters\n    {} corruptions\n\n"
        "Double checking the fixed image now...\n",
        result.leaks_fixed, result.corruptions_fixed);
  }
  if (!request.quiet) {
    if (request.json) {
      print_json(request, node, result);
    } else {
      print_text(result);
    }
  }
  if (result.check_errors != 0) {
    report_error("Check failed");
    return kExitFailed;
  }
  if (result.corruptions != 0) {
    return kExitCorrupt;
  }
  return result.leaks != 0 ? kExitLeaks : 0;
}

int fail_check(const Error& error) {
  if (error.code() == ENOTSUP) {
    report_error("This image format does not support checks");
    return kExitNotSupported;
  }
  const Error reason = Error::from_errno(error.code());
  if (error.message() != reason.message()) {
    report_error(error);
  }
  report_error(fmt::format("Check failed: {}", reason.message()));
  return kExitFailed;
}

io::Task<int> check_node(const CheckRequest& request, const block::Node& node) {
  const bool repair = request.fix_leaks || request.fix_errors;
  block::CheckOptions options = check_options(request.fix_leaks, request.fix_errors);
  Result<block::CheckResult> result = co_await node.driver().check(std::move(options));
  if (!repair || (!result && result.error().code() != ENOTSUP)) {
    co_return result ? finish(request, node, *result, false) : fail_check(result.error());
  }
  if (result && result->corruptions_fixed == 0 && result->leaks_fixed == 0) {
    co_return finish(request, node, *result, false);
  }
  // What counts is how the image is now; and a format that can not repair may be able to check.
  block::CheckOptions again = check_options(false, false);
  if (!result) {
    again.report = [](const std::string& /*line*/) {};  // told already
  }
  Result<block::CheckResult> second = co_await node.driver().check(std::move(again));
  if (!second) {
    co_return fail_check(second.error());
  }
  if (!result) {
    report_error(result.error());
    co_return kExitNotSupported;
  }
  second->corruptions_fixed = result->corruptions_fixed;
  second->leaks_fixed = result->leaks_fixed;
  co_return finish(request, node, *second, true);
}

io::Task<int> check(block::Graph& graph, const CheckRequest& request) {
  auto root = co_await open_root(graph, request.image, request.flags);
  if (!root) {
    co_return fail_command(root.error());
  }
  const int code = co_await check_node(request, (*root)->node());
  Result<void> released = co_await graph.detach(std::move(*root));
  if (!released) {
    co_return fail_command(released.error());
  }
  co_return code;
}

// Reads the options into `request`; the exit code when there is nothing more to do.
std::optional<int> read_options(ImgCommandLine& line, CheckRequest& request) {
  while (const auto option = line.next()) {
    if (take_image_option(*option, request) == OptionUse::kTaken) {
      continue;
    }
    switch (option->id) {
      case 'r':
        if (option->value != "leaks" && option->value != "all") {
          return line.misuse(
              fmt::format("--repair (-r) expects 'leaks' or 'all', not '{}'", option->value));
        }
        request.fix_leaks = true;
        request.fix_errors = option->value == "all";
        request.flags.read_only = false;
        break;
      case 'T':
        request.source_cache_text = option->value;
        break;
    }
  }
  return line.exit_code();
}

}  // namespace

int img_check(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kQuietOption,
                                 kFormatOption,
                                 kShareOption,
                                 kObjectOption,
                                 kPolicyOption,
                                 kImageOptsOption,
                                 kOutputOption,
                                 OptionSpec{'r', "repair", true},
                                 OptionSpec{'T', "source-cache", true}};
  CheckRequest request;
  ImgCommandLine line("check", arguments, kSpecs);
  if (const auto code = read_options(line, request)) {
    return *code;
  }
  if (const auto code = take_image_name(line, request)) {
    return *code;
  }
  request.flags.cache_direct = request.source_cache.direct;
  request.flags.no_flush = request.source_cache.no_flush;
  return run_in_session(check, request);
}

}  // namespace cairn::tools
