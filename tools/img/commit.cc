// cairn-img commit
//
// The images of a chain are open for reading alone, but for the one that is committed into. Which
// one that is decides how the chain is opened, so with -b it is opened once before, to find it.
#include "jobs/commit.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "block/filename.h"
#include "tools/common/image.h"
#include "tools/common/progress.h"
#include "tools/common/report.h"
#include "tools/common/session.h"
#include "tools/img/image.h"
#include "tools/img/img.h"

namespace cairn::tools {
namespace {

using block::PermissionSet;

struct CommitRequest : ImageRequest {
  std::optional<std::string> base;  // none: the backing file, and the image is emptied
  bool keep = false;
  uint64_t rate_limit = 0;
};

// What an image lies in, for one that is a plain file.
std::string file_of(const block::Node& node) {
  const block::Edge* file = node.child("file");
  return file != nullptr ? file_of(file->node()) : node.filename();
}

// Whether `name`, as written here or as seen from the image above, is the image `node`.
bool is_called(const block::Node& node, const block::Node& above, const std::string& name) {
  if (name == node.filename()) {
    return true;
  }
  for (const std::string& path : {name, block::resolve_relative(file_of(above), name)}) {
    std::error_code failed;
    if (std::filesystem::equivalent(path, file_of(node), failed) && !failed) {
      return true;
    }
  }
  return false;
}

// How many images below the one on top an image is; 0 when it is none of them.
unsigned depth_of(const block::Node& top, const std::string& name) {
  unsigned depth = 1;
  for (const block::Node* above = &top; above->backing() != nullptr; ++depth) {
    const block::Node& node = above->backing()->node();
    if (is_called(node, *above, name)) {
      return depth;
    }
    above = &node;
  }
  return 0;
}

// As depth_of().
io::Task<Result<unsigned>> find_base(block::Graph& graph, const CommitRequest& request) {
  if (!request.base) {
    co_return 1;
  }
  const block::OpenFlags flags{.read_only = true, .no_io = true, .force_share = true};
  auto top = co_await open_unfiltered(graph, request.image, flags);
  if (!top) {
    co_return pass(top);
  }
  const unsigned depth = depth_of((*top)->node(), *request.base);
  Result<void> closed = co_await graph.detach(std::move(*top));
  if (!closed) {
    co_return pass(closed);
  }
  co_return depth;
}

// An edge of our own to the image that is committed into.
Result<std::unique_ptr<block::Edge>> attach_base(block::Graph& graph, block::Edge& top,
                                                 unsigned depth) {
  const block::Edge* link = &top;
  for (; depth > 0 && link != nullptr; --depth) {
    // What stands above a file for tests has nothing that could be committed.
    const bool image = link->node().info().kind != block::DriverInfo::Kind::kProtocol;
    link = image ? link->node().backing() : nullptr;
  }
  if (link == nullptr) {
    return fail(EINVAL, "Image does not have a backing file");
  }
  // The images above bear with what changes below them.
  if (auto shared = graph.set_permissions(
          top, {.used = top.permissions().used, .shared = PermissionSet::all()});
      !shared) {
    return pass(shared);
  }
  block::Permissions permissions = root_permissions(link->node());
  permissions.used |= PermissionSet::kWrite | PermissionSet::kResize;
  return graph.attach(link->shared_node(), "commit", permissions);
}

io::Task<Result<void>> commit(block::Graph& graph, block::Edge& top, unsigned depth,
                              const CommitRequest& request, ProgressLine& progress) {
  if (depth == 0) {
    co_return fail(ENOENT, "Did not find '{}' in the backing chain of '{}'", *request.base,
                   request.image.text);
  }
  auto base = attach_base(graph, top, depth);
  if (!base) {
    co_return pass(base);
  }
  jobs::CommitOptions options{.overlay = &top,
                              .base = base->get(),
                              .empty = !request.base && !request.keep,
                              .rate_limit = request.rate_limit,
                              .fua = request.cache.writethrough};
  options.progress = [&progress](uint64_t done, uint64_t total) { progress.update(done, total); };
  Result<void> result = co_await jobs::commit_image(options);
  if (!result) {
    result = pass(result, fmt::format("Could not commit '{}' into '{}': ", top.node().filename(),
                                      (*base)->node().filename()));
  }
  Result<void> closed = co_await graph.detach(std::move(*base));
  co_return result ? std::move(closed) : std::move(result);
}

io::Task<int> run(block::Graph& graph, const CommitRequest& request) {
  const Result<unsigned> depth = co_await find_base(graph, request);
  if (!depth) {
    co_return fail_command(depth.error());
  }
  const block::OpenFlags flags{.discard_unmap = true,
                               .cache_direct = request.cache.direct,
                               .no_flush = request.cache.no_flush,
                               .writable_backing = *depth};
  auto top = co_await open_unfiltered(graph, request.image, flags);
  if (!top) {
    co_return fail_command(top.error());
  }
  ProgressLine progress(ProgressLine::wanted(request.progress, request.quiet));
  progress.announce();
  Result<void> result = co_await commit(graph, **top, *depth, request, progress);
  progress.finish();
  Result<void> closed = co_await graph.detach(std::move(*top));
  result = result ? std::move(closed) : std::move(result);
  if (!result) {
    co_return fail_command(result.error());
  }
  if (!request.quiet) {
    fmt::print("Image committed.\n");
  }
  co_return 0;
}

// The exit code when there is nothing more to do.
std::optional<int> take_commit_option(const ParsedOption& option, CommitRequest& request) {
  if (take_image_option(option, request) == OptionUse::kTaken) {
    return std::nullopt;
  }
  switch (option.id) {
    case 'b':
      request.base = option.value;
      break;
    case 'd':
      request.keep = true;
      break;
    case 't':
      request.cache_text = option.value;
      break;
    case 'r': {
      const auto rate = parse_size_argument("rate limit", option.value);
      if (!rate) {
        return fail_command(rate.error());
      }
      request.rate_limit = *rate;
      break;
    }
    default:
      break;
  }
  return std::nullopt;
}

}  // namespace

int img_commit(std::span<const std::string> arguments) {
  constexpr std::array kSpecs = {kHelpOption,
                                 kQuietOption,
                                 kProgressOption,
                                 kFormatOption,
                                 kObjectOption,
                                 kImageOptsOption,
                                 OptionSpec{'b', "base", true},
                                 OptionSpec{'d', "drop", false},
                                 OptionSpec{'r', "rate-limit", true},
                                 OptionSpec{'t', "cache", true}};
  CommitRequest request;
  ImgCommandLine line("commit", arguments, kSpecs);
  while (const auto option = line.next()) {
    if (const auto code = take_commit_option(*option, request)) {
      return *code;
    }
  }
  if (line.exit_code()) {
    return *line.exit_code();
  }
  if (const auto code = take_image_name(line, request)) {
    return *code;
  }
  return run_in_session(run, request);
}

}  // namespace cairn::tools
