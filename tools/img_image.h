// What the subcommands of cairn-img that look at one image have in common on their command lines.
#pragma once

#include <optional>
#include <string_view>
#include <utility>

#include "block/graph.h"
#include "tools/common_image.h"
#include "tools/common_session.h"
#include "tools/img.h"

namespace cairn::tools {

// Each subcommand sets `flags` to what it needs before it reads its options.
struct ImageRequest {
  ImageName image;
  block::OpenFlags flags;
  CacheMode cache;
  bool json = false;
  bool quiet = false;
  bool progress = false;
};

enum class OptionUse : uint8_t {
  kTaken,
  kOther,    // it is the subcommand's own affair
  kRefused,  // its value is wrong, which was told
};

// Takes -f, -U, -p, -q, --image-opts and --output, as far as the subcommand has declared them.
[[nodiscard]] OptionUse take_image_option(const ParsedOption& option, ImageRequest& request);

// The exit code when the options say two things about the image's format, which is told.
[[nodiscard]] std::optional<int> check_image_name(const ImageName& image);

// Takes the image's name from the operands. The exit code when there is not one name, or when the
// options contradict each other.
[[nodiscard]] std::optional<int> take_image_name(const ImgCommandLine& line, ImageName& image);

// Takes a cache mode; false, with the error told, when there is no such. Messages call it `what`.
[[nodiscard]] bool take_cache_mode(std::string_view what, std::string_view text, CacheMode& mode);

// Runs the work of a subcommand in a session of its own; the exit code.
template <typename Request>
int run_in_session(io::Task<int> (*work)(block::Graph&, const Request&), const Request& request) {
  const auto session = Session::create();
  return session ? (*session)->run(work((*session)->graph(), request))
                 : fail_command(session.error());
}

// Opens the image, has `act` do its work and closes it; tells what fails. The exit code. `request`
// outlives the task. `unfiltered`: see open_unfiltered().
template <typename Request>
io::Task<int> act_on_image(block::Graph& graph, const Request& request, block::OpenFlags flags,
                           io::Task<Result<void>> (*act)(block::Graph&, block::Edge&,
                                                         const Request&),
                           bool unfiltered = false) {
  Result<std::unique_ptr<block::Edge>> root;
  if (unfiltered) {
    root = co_await open_unfiltered(graph, request.image, flags);
  } else {
    root = co_await open_root(graph, request.image, flags);
  }
  if (!root) {
    co_return fail_command(root.error());
  }
  Result<void> result = co_await act(graph, **root, request);
  Result<void> closed = co_await graph.detach(std::move(*root));
  result = result ? std::move(closed) : std::move(result);
  co_return result ? 0 : fail_command(result.error());
}

}  // namespace cairn::tools
