// cairn-img info
#include "tools/common/info.h"

#include <array>
#include <cerrno>
#include <optional>
#include <set>
#include <vector>

#include <fmt/format.h>

#include "block/filename.h"
#include "block/node_info.h"
#include "schema/json.h"
#include "schema/visit_block_info.h"
#include "tools/common/image.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/img/image.h"

namespace cairn::tools {
namespace {

using Chain = std::vector<schema::BlockGraphInfo>;

struct InfoRequest : ImageRequest {
  InfoRequest() { flags = {.read_only = true, .no_backing = true, .no_io = true}; }

  bool chain = false;
};

io::Task<Result<schema::BlockGraphInfo>> describe(block::Graph& graph, ImageName name,
                                                  block::OpenFlags flags) {
  auto root = co_await open_root(graph, name, flags);
  if (!root) {
    co_return pass(root);
  }
  Result<schema::BlockGraphInfo> info = co_await block::describe_tree((*root)->node());
  Result<void> released = co_await graph.detach(std::move(*root));
  co_return info;
}

// The image, and all below it when they are wanted. Each is opened by itself.
io::Task<Result<Chain>> collect(block::Graph& graph, InfoRequest request) {
  Chain chain;
  std::set<std::string> seen;
  ImageName next = request.image;
  while (true) {
    if (!seen.insert(next.text).second) {
      co_return fail(ELOOP, "Backing file '{}' creates an infinite loop.", next.text);
    }
    Result<schema::BlockGraphInfo> info = co_await describe(graph, next, request.flags);
    if (!info) {
      co_return pass(info);
    }
    next = {.text = info->full_backing_filename.value_or(""),
            .format = info->backing_filename_format.value_or("")};
    chain.push_back(std::move(*info));
    if (!request.chain || next.text.empty()) {
      co_return chain;
    }
    Result<void> allowed =
        graph.open_policy().check_name(chain.back().filename, "backing", next.text);
    if (!allowed) {
      co_return pass(allowed);
    }
  }
}

void print_json(const Chain& chain, bool as_list) {
  schema::JsonArray list;
  for (const schema::BlockGraphInfo& info : chain) {
    list.push_back(in_usual_order(to_json(info)));
  }
  const schema::JsonValue value =
      as_list ? schema::JsonValue(std::move(list)) : std::move(list.front());
  fmt::print("{}\n", to_text(value, schema::JsonLayout::kPretty));
}

void print_text(const Chain& chain) {
  for (size_t i = 0; i < chain.size(); ++i) {
    fmt::print("{}{}", i == 0 ? "" : "\n", info_text(chain[i]));
  }
}

// Reads the options into `request`; the exit code when there is nothing more to do.
std::optional<int> read_options(ImgCommandLine& line, InfoRequest& request) {
  while (const auto option = line.next()) {
    if (take_image_option(*option, request) == OptionUse::kTaken) {
      continue;
    }
    switch (option->id) {
      case 't':
        request.cache_text = option->value;
        break;
      case kOptBackingChain:
        request.chain = true;
        break;
    }
  }
  return line.exit_code();
}

}  // namespace

int img_info(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kFormatOption,
                                 kShareOption,
                                 kObjectOption,
                                 kPolicyOption,
                                 kImageOptsOption,
                                 kOutputOption,
                                 OptionSpec{'t', "cache", true},
                                 OptionSpec{kOptBackingChain, "backing-chain", false}};
  InfoRequest request;
  ImgCommandLine line("info", arguments, kSpecs);
  if (const auto code = read_options(line, request)) {
    return *code;
  }
  if (const auto code = take_image_name(line, request)) {
    return *code;
  }
  request.flags.cache_direct = request.cache.direct;
  auto session = Session::create();
  if (!session) {
    return fail_command(session.error());
  }
  const Result<Chain> chain = (*session)->run(collect((*session)->graph(), request));
  if (!chain) {
    return fail_command(chain.error());
  }
  if (request.json) {
    print_json(*chain, request.chain);
  } else {
    print_text(*chain);
  }
  return 0;
}

}  // namespace cairn::tools
