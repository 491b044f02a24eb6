// cairn-img compare
#include "jobs/compare.h"

#include <array>
#include <cstring>
#include <memory>

#include <fmt/format.h>

#include "tools/common/host_compare.h"
#include "tools/common/image.h"
#include "tools/common/progress.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/img/image.h"
#include "tools/img/img.h"

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
  std::optional<std::string> cache_text;  // looked at when there are two images
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

io::Task<int> compare_edges(const CompareRequest& request, block::Edge& first, block::Edge& second,
                            ProgressLine& progress) {
  const bool same_size = first.length() == second.length();
  if (!same_size && request.strict) {
    progress.update(0, 1);
    if (!request.quiet) {
      fmt::print("Strict mode: Image size mismatch!\n");
    }
    co_return kExitDifferent;
  }
  bool warned = same_size || request.quiet;
  const uint64_t common = std::min(first.length(), second.length());
  jobs::CompareOptions options{.first = &first, .second = &second, .strict = request.strict};
  options.progress = [&](uint64_t done, uint64_t total) {
    progress.update(done, total);
    // Said once what both have is equal: a difference there would be the more important news.
    if (!warned && done >= common) {
      fmt::print("Warning: Image size mismatch!\n");
      warned = true;
    }
  };
  HostCompare stored;
  if (!request.flags.cache_direct) {
    stored.add(first.node());
    stored.add(second.node());
    options.stored = &stored;
  }
  jobs::CompareOutcome outcome = co_await jobs::compare_images(std::move(options));
  int code = 0;
  if (outcome.failure) {
    code = report_failure(request, *outcome.failure, outcome.error);
  } else if (outcome.difference) {
    code = report_difference(request, *outcome.difference);
  } else if (!request.quiet) {
    fmt::print("Images are identical.\n");
  }
  co_return code;
}

io::Task<int> open_and_compare(block::Graph& graph, const CompareRequest& request,
                               ProgressLine& progress) {
  Result<std::unique_ptr<block::Edge>> first =
      co_await open_root(graph, request.first, request.flags);
  if (!first) {
    (void)fail_command(first.error());
    co_return kExitNotOpened;
  }
  Result<std::unique_ptr<block::Edge>> second;
  if (request.second.by_options && request.second.format_given) {
    second = fail(EINVAL, "--image-opts and --format are mutually exclusive");
  } else {
    second = co_await open_root(graph, request.second, request.flags);
  }
  int code = kExitNotOpened;
  if (second) {
    code = co_await compare_edges(request, **first, **second, progress);
    Result<void> closed = co_await graph.detach(std::move(*second));
  } else {
    (void)fail_command(second.error());
  }
  Result<void> closed = co_await graph.detach(std::move(*first));
  co_return code;
}

io::Task<int> compare(block::Graph& graph, const CompareRequest& request) {
  ProgressLine progress(ProgressLine::wanted(request.progress, request.quiet));
  const int code = co_await open_and_compare(graph, request, progress);
  progress.finish();
  co_return code;
}

// Reads the options into `request`; the exit code when there is nothing more to do.
std::optional<int> read_options(ImgCommandLine& line, CompareRequest& request) {
  while (const auto option = line.next()) {
    switch (option->id) {
      case 'f':
        request.first.give_format(option->value);
        break;
      case 'F':
        request.second.give_format(option->value);
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
      case 'T':
        request.cache_text = option->value;
        break;
      case kOptImageOpts:
        request.first.by_options = true;
        request.second.by_options = true;
        break;
    }
  }
  return line.object_refused() ? kExitNotOpened : line.exit_code();
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
  if (check_image_name(request.first)) {
    return kExitNotOpened;
  }
  if (request.cache_text) {
    const auto mode = parse_cache_mode(*request.cache_text);
    if (!mode) {
      report_error(fmt::format("Invalid source cache option: {}", *request.cache_text));
      return kExitNotOpened;
    }
    request.flags.cache_direct = mode->direct;
  }
  auto session = Session::create();
  if (!session) {
    (void)fail_command(session.error());
    return kExitNotOpened;
  }
  return (*session)->run(compare((*session)->graph(), request));
}

}  // namespace cairn::tools
