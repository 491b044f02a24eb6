// cairn-img create
#include "tools/common/create.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <utility>

#include "block/filename.h"
#include "tools/common/image.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/img/img.h"

namespace cairn::tools {
namespace {

struct CreateRequest {
  std::string filename;
  std::string format = "raw";
  std::string options;  // what all -o say
  std::optional<std::string> backing;
  std::optional<std::string> backing_format;
  std::optional<uint64_t> size;  // bytes
  bool trust_backing = false;
  bool quiet = false;
};

// Puts what has options of its own on the command line among the creation options.
Result<void> merge_options(const CreateRequest& request, const CreationTable& table,
                           block::CreateOptions& options) {
  if (auto parsed = parse_option_list(request.options, options); !parsed) {
    return parsed;
  }
  if (request.size && options.has("size")) {
    return fail(EINVAL, "The image size must be specified only once");
  }
  if (request.backing) {
    if (!table.has("backing_file")) {
      return fail(EINVAL, "Backing file not supported for file format '{}'", request.format);
    }
    if (auto set = options.set("backing_file", *request.backing); !set) {
      return set;
    }
  }
  if (request.backing_format) {
    if (!table.has("backing_fmt")) {
      return fail(EINVAL, "Backing file format not supported for file format '{}'", request.format);
    }
    if (auto set = options.set("backing_fmt", *request.backing_format); !set) {
      return set;
    }
  }
  if (request.size) {
    return options.set("size", std::to_string(*request.size));
  }
  return {};
}

// The size and the format of the image that the new one is to stand on.
struct BackingFacts {
  uint64_t size = 0;
  std::string format;
};

io::Task<Result<BackingFacts>> look_at_backing(block::Graph& graph, std::string overlay,
                                               std::string backing, std::string format) {
  const std::string path = block::resolve_relative(overlay, backing);
  // Neither its keys nor its data are needed, and a machine may be writing to it.
  const block::OpenFlags flags{.read_only = true, .no_io = true, .force_share = true};
  ImageName name{.text = path, .format = std::move(format)};
  auto node = co_await open_image(graph, std::move(name), flags);
  if (!node) {
    co_return std::unexpected(std::move(node.error()).with_hint("Could not open backing image."));
  }
  const BackingFacts facts{.size = (*node)->length(), .format = std::string((*node)->info().name)};
  Result<void> released = co_await graph.release(std::move(*node));
  if (!released) {
    co_return pass(released);
  }
  co_return facts;
}

// Checks the backing file that `options` name, and takes the size from it when there is none.
io::Task<Result<void>> settle_backing(block::Graph& graph, const CreateRequest& request,
                                      block::CreateOptions& options) {
  const std::string backing = options.string("backing_file").value_or("");
  if (options.has("backing_file") && backing.empty()) {
    co_return fail(EINVAL, "Expected backing file name, got empty string");
  }
  if (!backing.empty() && backing == request.filename) {
    co_return fail(EINVAL,
                   "Error: Trying to create an image with the same filename as the backing file");
  }
  if (backing.empty() || request.trust_backing) {
    if (!backing.empty() && !options.has("backing_fmt")) {
      co_return fail(EINVAL, "Backing file specified without backing format");
    }
    co_return Result<void>();
  }
  const std::string format = options.string("backing_fmt").value_or("");
  if (options.has("backing_fmt") && format.empty()) {
    co_return std::unexpected(
        Error(ENOENT, "Unknown driver ''").with_hint("Could not open backing image."));
  }
  Result<BackingFacts> facts = co_await look_at_backing(graph, request.filename, backing, format);
  if (!facts) {
    co_return pass(facts);
  }
  if (format.empty()) {
    co_return std::unexpected(Error(EINVAL, "Backing file specified without backing format")
                                  .with_hint(fmt::format("Detected format of {}.", facts->format)));
  }
  if (!options.has("size")) {
    co_return options.set("size", std::to_string(facts->size));
  }
  co_return Result<void>();
}

io::Task<Result<void>> create(block::Graph& graph, const CreateRequest& request) {
  const Result<CreationTable> table =
      CreationTable::find(graph.drivers(), request.format, request.filename);
  if (!table) {
    co_return std::unexpected(table.error());
  }
  block::CreateOptions options(table->options());
  if (auto merged = merge_options(request, *table, options); !merged) {
    co_return pass(merged);
  }
  Result<void> settled = co_await settle_backing(graph, request, options);
  if (!settled) {
    co_return settled;
  }
  // A header alone knows nothing of the disk.
  const bool needs_size = !options.boolean("detached-header").value_or(false);
  if (needs_size && !options.has("size")) {
    co_return fail(EINVAL, "Image creation needs a size parameter");
  }
  if (!request.quiet) {
    fmt::print("Formatting '{}', fmt={} {}\n", request.filename, request.format, options.to_text());
  }
  std::string path = creation_path(request.filename);
  Result<void> created = co_await table->format().create(graph, path, options);
  if (!created) {
    co_return std::unexpected(creation_failure(*table, path, std::move(created.error())));
  }
  co_return created;
}

// Reads the options into `request`; the exit code when there is nothing more to do.
std::optional<int> read_options(ImgCommandLine& line, CreateRequest& request) {
  while (const auto option = line.next()) {
    switch (option->id) {
      case 'f':
        request.format = option->value;
        break;
      case 'b':
        request.backing = option->value;
        break;
      case 'B':
      case 'F':
        request.backing_format = option->value;
        break;
      case 'u':
        request.trust_backing = true;
        break;
      case 'q':
        request.quiet = true;
        break;
      case 'o':
        if (auto appended = append_option_list(request.options, option->value); !appended) {
          return fail_command(appended.error());
        }
        break;
    }
  }
  return line.exit_code();
}

// Reads FILE and SIZE.
std::optional<int> read_operands(const ImgCommandLine& line, CreateRequest& request) {
  const std::vector<std::string> operands = line.operands();
  if (operands.empty()) {
    return line.misuse("Expecting image file name");
  }
  request.filename = operands[0];
  if (operands.size() > 1) {
    const Result<uint64_t> size = parse_size_argument("image size", operands[1]);
    if (!size) {
      return fail_command(size.error());
    }
    request.size = *size;
  }
  if (operands.size() > 2) {
    return line.misuse(fmt::format("Unexpected argument: {}", operands[2]));
  }
  return std::nullopt;
}

}  // namespace

int img_create(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kQuietOption,
                                 kFormatOption,
                                 kObjectOption,
                                 OptionSpec{'b', "backing", true},
                                 OptionSpec{'B', "backing-format", true},
                                 OptionSpec{'F', nullptr, true},
                                 OptionSpec{'u', "backing-unsafe", false},
                                 OptionSpec{'o', "options", true}};
  CreateRequest request;
  ImgCommandLine line("create", arguments, kSpecs);
  if (const auto code = read_options(line, request)) {
    return *code;
  }
  auto session = Session::create();
  if (!session) {
    return fail_command(session.error());
  }
  block::Graph& graph = (*session)->graph();
  if (asks_for_help(request.options)) {
    const std::vector<std::string> operands = line.operands();
    const auto printed = print_creation_help(graph.drivers(), request.format,
                                             operands.empty() ? "" : operands.front());
    return printed ? 0 : fail_command(printed.error());
  }
  if (const auto code = read_operands(line, request)) {
    return *code;
  }
  Result<void> created = (*session)->run(create(graph, request));
  if (!created) {
    return fail_command(std::move(created.error()).prefix(request.filename + ": "));
  }
  return 0;
}

}  // namespace cairn::tools
