// cairn-img bitmap
#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/size_text.h"
#include "block/dirty_bitmap_ops.h"
#include "tools/common/image.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/img/image.h"
#include "tools/img/img.h"

namespace cairn::tools {
namespace {

// What is done to the bitmap, in the order of the command line.
struct BitmapAction {
  enum class Kind : uint8_t { kAdd, kRemove, kClear, kEnable, kDisable, kMerge };
  Kind kind = Kind::kAdd;
  std::string source;  // kMerge: the bitmap to merge
};

struct BitmapRequest {
  ImageName image;
  std::string bitmap;
  std::vector<BitmapAction> actions;
  std::optional<uint64_t> granularity;
  std::optional<std::string> source_file;
  std::optional<std::string> source_format;

  [[nodiscard]] bool has(BitmapAction::Kind kind) const {
    return std::ranges::find(actions, kind, &BitmapAction::kind) != actions.end();
  }
};

std::string_view name_of(BitmapAction::Kind kind) {
  constexpr std::array<std::string_view, 6> kNames = {"add",    "remove",  "clear",
                                                      "enable", "disable", "merge"};
  return kNames[static_cast<size_t>(kind)];
}

std::optional<BitmapAction::Kind> action_of(int id) {
  switch (id) {
    case kOptAdd:
      return BitmapAction::Kind::kAdd;
    case kOptRemove:
      return BitmapAction::Kind::kRemove;
    case kOptClear:
      return BitmapAction::Kind::kClear;
    case kOptEnable:
      return BitmapAction::Kind::kEnable;
    case kOptDisable:
      return BitmapAction::Kind::kDisable;
    case kOptMerge:
      return BitmapAction::Kind::kMerge;
    default:
      return std::nullopt;
  }
}

io::Task<Result<void>> carry_out(const BitmapRequest& request, block::Node& node,
                                 block::Node* source, BitmapAction action) {
  const std::string& name = request.bitmap;
  switch (action.kind) {
    case BitmapAction::Kind::kAdd: {
      block::NewBitmap wanted{.name = name, .granularity = request.granularity, .persistent = true};
      wanted.disabled =
          request.has(BitmapAction::Kind::kDisable) && !request.has(BitmapAction::Kind::kEnable);
      co_return co_await block::add_bitmap(node, std::move(wanted));
    }
    case BitmapAction::Kind::kRemove:
      co_return co_await block::remove_bitmap(node, name);
    case BitmapAction::Kind::kClear:
      co_return co_await block::clear_bitmap(node, name);
    case BitmapAction::Kind::kEnable:
      co_return co_await block::enable_bitmap(node, name, true);
    case BitmapAction::Kind::kDisable:
      co_return co_await block::enable_bitmap(node, name, false);
    case BitmapAction::Kind::kMerge:
      break;
  }
  std::vector<block::BitmapSource> sources{
      {.node = source != nullptr ? source : &node, .name = std::move(action.source)}};
  co_return co_await block::merge_bitmaps(node, name, std::move(sources));
}

io::Task<int> change(const BitmapRequest& request, block::Node& node, block::Node* source) {
  for (const BitmapAction& action : request.actions) {
    const Result<void> done = co_await carry_out(request, node, source, action);
    if (!done) {
      Error error = done.error();
      co_return fail_command(std::move(error).prefix(
          fmt::format("Operation {} on bitmap {} failed: ", name_of(action.kind), request.bitmap)));
    }
  }
  co_return 0;
}

io::Task<int> run(block::Graph& graph, const BitmapRequest& request) {
  auto root = co_await open_root(graph, request.image, {.no_backing = true});
  if (!root) {
    co_return fail_command(root.error());
  }
  std::unique_ptr<block::Edge> source;
  int code = 0;
  if (request.source_file) {
    const ImageName name{.text = *request.source_file,
                         .format = request.source_format.value_or("")};
    const block::OpenFlags flags{.read_only = true, .no_backing = true};
    auto opened = co_await open_root(graph, name, flags);
    if (opened) {
      source = std::move(*opened);
    } else {
      code = fail_command(opened.error());
    }
  }
  if (code == 0) {
    block::Node* from = source != nullptr ? &source->node() : nullptr;
    code = co_await change(request, (*root)->node(), from);
  }
  Result<void> closed = co_await graph.detach(std::move(*root));
  if (source != nullptr) {
    const Result<void> released = co_await graph.detach(std::move(source));
    static_cast<void>(released);
  }
  if (code == 0 && !closed) {
    co_return fail_command(closed.error());
  }
  co_return code;
}

// Reads the options into `request`; the exit code when there is nothing more to do.
std::optional<int> read_options(ImgCommandLine& line, BitmapRequest& request) {
  while (const auto option = line.next()) {
    if (const auto kind = action_of(option->id)) {
      request.actions.push_back({.kind = *kind, .source = option->value});
    } else if (option->id == 'g') {
      const Result<uint64_t> size = parse_size_argument("granularity", option->value);
      if (!size) {
        return fail_command(size.error());
      }
      request.granularity.reset();
      if (*size != 0) {  // which is what there is without
        request.granularity = *size;
      }
    } else if (option->id == 'b') {
      request.source_file = option->value;
    } else if (option->id == 'F') {
      request.source_format = option->value;
    } else if (option->id == 'f') {
      request.image.give_format(option->value);
    } else if (option->id == kOptImageOpts) {
      request.image.by_options = true;
    }
  }
  return line.exit_code();
}

std::string_view contradiction(const BitmapRequest& request) {
  if (request.actions.empty()) {
    return "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge";
  }
  if (request.granularity && !request.has(BitmapAction::Kind::kAdd)) {
    return "granularity only supported with --add";
  }
  if (request.source_format && !request.source_file) {
    return "-F only supported with -b";
  }
  if (request.source_file && !request.has(BitmapAction::Kind::kMerge)) {
    return "Merge bitmap source file only supported with --merge";
  }
  return {};
}

}  // namespace

int img_bitmap(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kFormatOption,
                                 kObjectOption,
                                 kPolicyOption,
                                 kImageOptsOption,
                                 OptionSpec{'b', "source-file", true},
                                 OptionSpec{'F', "source-format", true},
                                 OptionSpec{'g', "granularity", true},
                                 OptionSpec{kOptAdd, "add", false},
                                 OptionSpec{kOptRemove, "remove", false},
                                 OptionSpec{kOptClear, "clear", false},
                                 OptionSpec{kOptEnable, "enable", false},
                                 OptionSpec{kOptDisable, "disable", false},
                                 OptionSpec{kOptMerge, "merge", true}};
  BitmapRequest request;
  ImgCommandLine line("bitmap", arguments, kSpecs);
  if (const auto code = read_options(line, request)) {
    return *code;
  }
  if (const std::string_view wrong = contradiction(request); !wrong.empty()) {
    report_error(wrong);
    return 1;
  }
  const std::vector<std::string> operands = line.operands();
  if (operands.size() != 2) {
    report_error("Expecting filename and bitmap name");
    return 1;
  }
  request.image.text = operands[0];
  request.bitmap = operands[1];
  if (const auto code = check_image_name(request.image)) {
    return *code;
  }
  auto session = Session::create();
  if (!session) {
    return fail_command(session.error());
  }
  return (*session)->run(run((*session)->graph(), request));
}

}  // namespace cairn::tools
