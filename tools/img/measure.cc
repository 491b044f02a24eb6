// cairn-img measure
#include <array>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "block/create_options.h"
#include "block/driver_table.h"
#include "block/node.h"
#include "tools/common/create.h"
#include "tools/common/image.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/common/snapshots.h"
#include "tools/img/image.h"

namespace cairn::tools {
namespace {

struct MeasureRequest : ImageRequest {
  MeasureRequest() { flags = {.read_only = true}; }

  std::string target_format = "raw";
  std::string options;  // what all -o say
  std::optional<uint64_t> size;
  std::optional<SnapshotChoice> snapshot;
  bool has_image = false;
};

Result<block::CreateOptions> target_options(const MeasureRequest& request,
                                            const CreationTable& table) {
  block::CreateOptions options(table.options());
  if (auto parsed = parse_option_list(request.options, options); !parsed) {
    report_error(parsed.error());
    return fail(EINVAL, "Invalid options for file format '{}'", request.target_format);
  }
  return options;
}

void print(const block::MeasuredSize& measured, bool json) {
  if (json) {
    fmt::print("{{\n");
    if (measured.bitmaps) {
      fmt::print("    \"bitmaps\": {},\n", *measured.bitmaps);
    }
    fmt::print("    \"required\": {},\n    \"fully-allocated\": {}\n}}\n", measured.required,
               measured.fully_allocated);
    return;
  }
  fmt::print("required size: {}\nfully allocated size: {}\n", measured.required,
             measured.fully_allocated);
  if (measured.bitmaps) {
    fmt::print("bitmaps size: {}\n", *measured.bitmaps);
  }
}

// What is said about encryption matters with LUKS alone, which takes room in the image.
block::CreateOptions without_idle(const block::CreateOptions& options) {
  if (options.string("encrypt.format").value_or("") == "luks") {
    return options;
  }
  block::CreateOptions kept(options.table());
  for (const block::CreateOptionInfo& info : options.table()) {
    if (options.has(info.name) && !info.name.starts_with("encrypt")) {
      const Result<void> set = kept.set(info.name, *options.string(info.name));
      static_cast<void>(set);  // it was right before
    }
  }
  return kept;
}

// How an image of the format would be created.
struct Target {
  CreationTable table;  // which the options refer to
  block::CreateOptions options;
};

Result<Target> find_target(const block::Graph& graph, const MeasureRequest& request) {
  const block::DriverInfo* format = graph.drivers().find(request.target_format);
  if (format == nullptr) {
    return fail(EINVAL, "Unknown file format '{}'", request.target_format);
  }
  if (format->create == nullptr) {
    return fail(ENOTSUP, "Format driver '{}' does not support image creation", format->name);
  }
  const bool protocol = format->kind == block::DriverInfo::Kind::kProtocol;
  Result<CreationTable> table = CreationTable::find(graph.drivers(), format->name, "");
  if (!table && !protocol) {
    return pass(table);
  }
  if (table) {
    const Result<block::CreateOptions> options = target_options(request, *table);
    if (!options) {
      return std::unexpected(options.error());
    }
    if (format->measure != nullptr) {
      return Target{.table = std::move(*table), .options = without_idle(*options)};
    }
  }
  return fail(ENOTSUP, "Block driver '{}' does not support size measurement", format->name);
}

// Of a copy of `source`, or of a disk without content when there is none.
io::Task<Result<block::MeasuredSize>> measure_target(block::Graph& graph,
                                                     const MeasureRequest& request, uint64_t size,
                                                     block::Edge* source) {
  Result<Target> target = find_target(graph, request);
  if (!target) {
    co_return pass(target);
  }
  if (auto set = target->options.set("size", std::to_string(size)); !set) {
    co_return pass(set);
  }
  auto measuring = target->table.format().measure(target->options, source);
  Result<block::MeasuredSize> measured = co_await std::move(measuring);
  if (measured) {
    // What the options say is judged before what they refer to.
    if (auto secrets = check_secrets(graph, target->options); !secrets) {
      co_return pass(secrets);
    }
  }
  co_return measured;
}

io::Task<Result<block::MeasuredSize>> measure(block::Graph& graph, const MeasureRequest& request) {
  if (!request.has_image) {
    co_return co_await measure_target(graph, request, *request.size, nullptr);
  }
  auto root = co_await open_root(graph, request.image, request.flags);
  if (!root) {
    co_return pass(root);
  }
  Result<block::MeasuredSize> measured;
  Result<void> shown;
  if (request.snapshot) {
    shown = co_await show_snapshot(**root, *request.snapshot);
  }
  if (shown) {
    measured = co_await measure_target(graph, request, (*root)->length(), root->get());
  } else {
    measured = pass(shown);
  }
  Result<void> closed = co_await graph.detach(std::move(*root));
  if (measured && !closed) {
    co_return pass(closed);
  }
  co_return measured;
}

// Reads the options into `request`; the exit code when there is nothing more to do.
std::optional<int> read_options(ImgCommandLine& line, MeasureRequest& request) {
  while (const auto option = line.next()) {
    if (option->id == kOptOutput) {
      // Nothing else of this subcommand is looked at later.
      const auto json = parse_output_is_json(option->value);
      if (!json) {
        return 1;
      }
      request.json = *json;
      continue;
    }
    if (take_image_option(*option, request) == OptionUse::kTaken) {
      continue;
    }
    switch (option->id) {
      case 'O':
        request.target_format = option->value;
        break;
      case 'o':
        if (auto appended = append_option_list(request.options, option->value); !appended) {
          return fail_command(appended.error());
        }
        break;
      case 'l': {
        Result<SnapshotChoice> choice = parse_snapshot_choice(option->value);
        if (!choice) {
          return fail_command(choice.error());
        }
        request.snapshot = std::move(*choice);
        break;
      }
      case 's': {
        const Result<uint64_t> size = parse_size_argument("image size", option->value);
        if (!size) {
          return fail_command(size.error());
        }
        request.size = *size;
        break;
      }
    }
  }
  return line.exit_code();
}

std::optional<int> read_operands(const ImgCommandLine& line, MeasureRequest& request) {
  const std::vector<std::string> operands = line.operands();
  if (operands.size() > 1) {
    report_error("At most one filename argument is allowed.");
    return 1;
  }
  request.has_image = !operands.empty();
  if (!request.has_image &&
      (request.image.by_options || request.image.format_given || request.snapshot)) {
    report_error("--image-opts, -f, and -l require a filename argument.");
    return 1;
  }
  if (!request.has_image && !request.size) {
    report_error("Either --size N or one filename must be specified.");
    return 1;
  }
  if (request.has_image && request.size) {
    report_error("--size N cannot be used together with a filename.");
    return 1;
  }
  if (request.has_image) {
    return take_image_name(line, request);
  }
  return std::nullopt;
}

}  // namespace

int img_measure(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kFormatOption,
                                 kObjectOption,
                                 kPolicyOption,
                                 kImageOptsOption,
                                 kOutputOption,
                                 kShareOption,
                                 OptionSpec{'O', "target-format", true},
                                 OptionSpec{'l', "snapshot", true},
                                 OptionSpec{'o', "target-format-options", true},
                                 OptionSpec{'s', "size", true}};
  MeasureRequest request;
  ImgCommandLine line("measure", arguments, kSpecs);
  if (const auto code = read_options(line, request)) {
    return *code;
  }
  auto session = Session::create();
  if (!session) {
    return fail_command(session.error());
  }
  block::Graph& graph = (*session)->graph();
  if (asks_for_help(request.options) &&
      print_creation_help(graph.drivers(), request.target_format, "")) {
    return 0;  // of other formats is said what is wrong
  }
  if (const auto code = read_operands(line, request)) {
    return *code;
  }
  const Result<block::MeasuredSize> measured = (*session)->run(measure(graph, request));
  if (!measured) {
    return fail_command(measured.error());
  }
  print(*measured, request.json);
  return 0;
}

}  // namespace cairn::tools
