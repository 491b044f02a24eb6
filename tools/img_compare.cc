// cairn-img compare
#include <array>
#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "jobs/compare.h"
#include "tools/common_image.h"
#include "tools/common_progress.h"
#include "tools/common_report.h"
#include "tools/common_session.h"
#include "tools/img.h"

namespace cairn::tools {
namespace {

constexpr int kExitDifferent = 1;
constexpr int kExitNotOpened = 2;
constexpr int kExitNoStatus = 3;
constexpr int kExitNotRead = 4;

struct CompareRequest {
  ImageName first;
  ImageName second;
  block::OpenFlags flags{.read_only = true};
  bool strict = false;
  bool progress = false;
  bool quiet = false;
};

int report_failure(const CompareRequest& request, const jobs::CompareFailure& failure, int error) {
  const std::string& name = (failure.second_image ? request.second : request.first).text;
  if (failure.step == jobs::CompareFailure::Step::kStatus) {
    report_error(fmt::format("Sector allocation test failed for {}", name));
    return kExitNoStatus;
  }
  report_error(fmt::format("Error while reading offset {} of {}: {}", failure.offset, name,
                           std::strerror(error)));
  return kExitNotRead;
}

int report_difference(const CompareRequest& request, const jobs::Difference& difference) {
  if (request.quiet) {
    return kExitDifferent;
  }
  if (difference.kind == jobs::Difference::Kind::kAllocation) {
    fmt::print("Strict mode: Offset {} block status mismatch!\n", difference.offset);
  } else {
    fmt::print("Content mismatch at offset {}!\n", difference.offset);
  }
  return kExitDifferent;
}

io::Task<int> compare_edges(const CompareRequest& request, block::Edge& first,
                            block::Edge& second) {
  const bool same_size = first.length() == second.length();
  if (!same_size && request.strict) {
    if (!request.quiet) {
      fmt::print("Strict mode: Image size mismatch!\n");
    }
    co_return kExitDifferent;
  }
  ProgressLine progress(ProgressLine::wanted(request.progress, request.quiet));
  bool warned = same_size || request.quiet;
  const uint64_t common = std::min(first.length(), second.length());
  jobs::CompareOptions options{.first = &first, .second = &second, .strict = request.strict};
  options.progress = [&](uint64_t done, uint64_t total) {
    // Said once what both have is equal: a difference there would be the more important news.
    if (!warned && done >= common) {
      fmt::print("Warning: Image size mismatch!\n");
      warned = true;
    }
    progress.update(done, total);
  };
  jobs::CompareOutcome outcome = co_await jobs::compare_images(std::move(options));
  int code = 0;
  if (outcome.failure) {
    code = report_failure(request, *outcome.failure, outcome.error);
  } else if (outcome.difference) {
    code = report_difference(request, *outcome.difference);
  } else if (!request.quiet) {
    fmt::print("Images are identical.\n");
  }
  progress.finish();
  co_return code;
}

io::Task<int> compare(block::Graph& graph, const CompareRequest& request) {
  Result<std::unique_ptr<block::Edge>> first =
      co_await open_root(graph, request.first, request.flags);
  if (!first) {
    (void)fail_command(first.error());
    co_return kExitNotOpened;
  }
  Result<std::unique_ptr<block::Edge>> second =
      co_await open_root(graph, request.second, request.flags);
  int code = kExitNotOpened;
  if (second) {
    code = co_await compare_edges(request, **first, **second);
    Result<void> closed = co_await graph.detach(std::move(*second));
  } else {
    (void)fail_command(second.error());
  }
  Result<void> closed = co_await graph.detach(std::move(*first));
  co_return code;
}

// Reads the options into `request`; the exit code when there is nothing more to do.
std::optional<int> read_options(ImgCommandLine& line, CompareRequest& request) {
  while (const auto option = line.next()) {
    switch (option->id) {
      case 'f':
        request.first.format = option->value;
        break;
      case 'F':
        request.second.format = option->value;
        break;
      case 'q':
        request.quiet = true;
        break;
      case 'p':
        request.progress = true;
        break;
      case 's':
        request.strict = true;
        break;
      case 'U':
        request.flags.force_share = true;
        break;
      case 'T': {
        const auto mode = parse_cache_mode(option->value);
        if (!mode) {
          report_error(fmt::format("Invalid source cache option: {}", option->value));
          return kExitNotOpened;
        }
        request.flags.cache_direct = mode->direct;
        break;
      }
      case kOptImageOpts:
        request.first.by_options = true;
        request.second.by_options = true;
        break;
    }
  }
  return line.exit_code();
}

}  // namespace

int img_compare(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kQuietOption,
                                 kProgressOption,
                                 kFormatOption,
                                 kShareOption,
                                 kObjectOption,
                                 kPolicyOption,
                                 kImageOptsOption,
                                 OptionSpec{'F', "format2", true},
                                 OptionSpec{'s', "strict", false},
                                 OptionSpec{'T', "source-cache", true}};
  CompareRequest request;
  ImgCommandLine line("compare", arguments, kSpecs);
  if (const auto code = read_options(line, request)) {
    return *code;
  }
  const std::vector<std::string> operands = line.operands();
  if (operands.size() != 2) {
    return line.misuse("Expecting two image file names");
  }
  request.first.text = operands[0];
  request.second.text = operands[1];
  const bool format_given = !request.first.format.empty() || !request.second.format.empty();
  if (request.first.by_options && format_given) {
    report_error("--image-opts and --format are mutually exclusive");
    return kExitNotOpened;
  }
  auto session = Session::create();
  if (!session) {
    (void)fail_command(session.error());
    return kExitNotOpened;
  }
  return (*session)->run(compare((*session)->graph(), request));
}

}  // namespace cairn::tools
