// cairn-img dd
#include <array>
#include <cerrno>
#include <climits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/sector.h"
#include "jobs/copy.h"
#include "tools/common/create.h"
#include "tools/common/image.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/img/image.h"

namespace cairn::tools {
namespace {

// The operands, as dd(1) has them: NAME=VALUE. Of several with one name the last counts.
struct DdRequest : ImageRequest {
  DdRequest() { flags = {.read_only = true}; }

  bool has_input = false;
  std::string output;
  std::string output_format = "raw";
  uint64_t block_size = kSector;
  std::optional<uint64_t> count;  // blocks; all without
  uint64_t skip = 0;              // blocks
};

uint64_t saturated_product(uint64_t a, uint64_t b) {
  return b != 0 && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

// The part of the source that is copied.
struct Window {
  uint64_t skip = 0;
  uint64_t length = 0;
  bool beyond_end = false;
};

// As the field does it, `count` limits what `skip` counts in as well: from its end on there is
// nothing to copy.
Window window_of(const DdRequest& request, uint64_t length) {
  const uint64_t wanted =
      request.count ? saturated_product(*request.count, request.block_size) : UINT64_MAX;
  const uint64_t end = std::min(length, wanted);
  const uint64_t skip = saturated_product(request.skip, request.block_size);
  if (skip > end) {
    return {.beyond_end = true};
  }
  return {.skip = skip, .length = end - skip};
}

Result<CreationTable> find_output_format(const block::Graph& graph, const DdRequest& request) {
  if (graph.drivers().find(request.output_format) == nullptr) {
    return fail(EINVAL, "Unknown file format");
  }
  return CreationTable::find(graph.drivers(), request.output_format, request.output);
}

io::Task<Result<void>> create_output(block::Graph& graph, const DdRequest& request,
                                     const CreationTable& table, uint64_t length) {
  block::CreateOptions options(table.options());
  if (auto set = options.set("size", std::to_string(length)); !set) {
    co_return set;
  }
  std::string path = creation_path(request.output);
  Result<void> created = co_await table.format().create(graph, path, options);
  if (!created) {
    co_return std::unexpected(
        creation_failure(table, path, std::move(created.error()))
            .prefix(request.output + ": error while creating output image: "));
  }
  co_return created;
}

io::Task<Result<void>> copy_to_output(block::Graph& graph, const DdRequest& request,
                                      block::Edge& source, Window window) {
  const ImageName name{.text = request.output, .format = request.output_format};
  auto target = co_await open_root(graph, name, {.discard_unmap = true});
  if (!target) {
    co_return pass(target);
  }
  if (window.beyond_end) {  // which is told, but no failure
    report_error(fmt::format("{}: cannot skip to specified offset", request.image.text));
  }
  jobs::CopyOptions options{
      .sources = {&source}, .target = target->get(), .skip = window.skip, .length = window.length};
  Result<void> copied = co_await jobs::copy_images(options);
  if (copied) {
    copied = co_await (*target)->flush();
  }
  Result<void> closed = co_await graph.detach(std::move(*target));
  co_return copied ? std::move(closed) : std::move(copied);
}

io::Task<Result<void>> copy(block::Graph& graph, const DdRequest& request, block::Edge& source) {
  const Result<CreationTable> table = find_output_format(graph, request);
  if (!table) {
    co_return std::unexpected(table.error());
  }
  const Window window = window_of(request, source.length());
  Result<void> created = co_await create_output(graph, request, *table, window.length);
  if (!created) {
    co_return created;
  }
  co_return co_await copy_to_output(graph, request, source, window);
}

io::Task<int> run(block::Graph& graph, const DdRequest& request) {
  // An image may be written over itself, as with dd(1).
  auto source = co_await open_root(graph, request.image, request.flags);
  if (!source) {
    co_return fail_command(source.error());
  }
  graph.set_open_policy({});  // the target is the user's
  Result<void> result = co_await copy(graph, request, **source);
  Result<void> closed = co_await graph.detach(std::move(*source));
  result = result ? std::move(closed) : std::move(result);
  co_return result ? 0 : fail_command(result.error());
}

// The exit code when there is nothing more to do.
std::optional<int> take_operand(const std::string& operand, DdRequest& request) {
  const size_t equals = std::min(operand.find('='), operand.size());
  const std::string_view name = std::string_view(operand).substr(0, equals);
  if (equals < operand.size()) {
    const std::string value = operand.substr(equals + 1);
    if (name == "if") {
      request.image.text = value;
      request.has_input = true;
      return std::nullopt;
    }
    if (name == "of") {
      request.output = value;
      return std::nullopt;
    }
    if (name == "bs" || name == "count" || name == "skip") {
      const bool block = name == "bs";
      const Result<uint64_t> number =
          parse_size_argument(name, value, block ? 1 : 0, block ? INT_MAX : INT64_MAX);
      if (!number) {
        return fail_command(number.error());
      }
      if (name == "count") {
        request.count = *number;
      } else {
        (block ? request.block_size : request.skip) = *number;
      }
      return std::nullopt;
    }
  }
  report_error(fmt::format("unrecognized operand {}", name));
  return 1;
}

std::optional<int> read_operands(const ImgCommandLine& line, DdRequest& request) {
  for (const std::string& operand : line.operands()) {
    if (const auto code = take_operand(operand, request)) {
      return code;
    }
  }
  if (!request.has_input || request.output.empty()) {
    report_error("Must specify both input and output files");
    return 1;
  }
  return check_image_name(request.image);
}

// Reads the options into `request`; the exit code when there is nothing more to do.
std::optional<int> read_options(ImgCommandLine& line, DdRequest& request) {
  while (const auto option = line.next()) {
    if (take_image_option(*option, request) == OptionUse::kOther && option->id == 'O') {
      request.output_format = option->value;
    }
  }
  return line.exit_code();
}

}  // namespace

int img_dd(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kFormatOption,
                                 kShareOption,
                                 kObjectOption,
                                 kPolicyOption,
                                 kImageOptsOption,
                                 OptionSpec{'O', "output-format", true}};
  DdRequest request;
  ImgCommandLine line("dd", arguments, kSpecs);
  if (const auto code = read_options(line, request)) {
    return *code;
  }
  if (const auto code = read_operands(line, request)) {
    return *code;
  }
  return run_in_session(run, request);
}

}  // namespace cairn::tools
