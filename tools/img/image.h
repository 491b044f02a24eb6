// What the subcommands of cairn-img that look at one image have in common on their command lines.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "block/graph.h"
#include "tools/common/image.h"
#include "tools/common/session.h"
#include "tools/img/img.h"

namespace cairn::tools {

// Each subcommand sets `flags` to what it needs before it reads its options.
struct ImageRequest {
  ImageName image;
  block::OpenFlags flags;
  CacheMode cache;
  CacheMode source_cache;
  bool json = false;
  bool quiet = false;
  bool progress = false;
  // Values that are looked at when it is clear that there is one image: see settle_values().
  std::optional<std::string> output_text;
  std::optional<std::string> cache_text;
  std::optional<std::string> source_cache_text;
};

enum class OptionUse : uint8_t {
  kTaken,
  kOther,  // it is the subcommand's own affair
};

// Takes -f, -U, -p, -q, --image-opts and --output, as far as the subcommand has declared them.
[[nodiscard]] OptionUse take_image_option(const ParsedOption& option, ImageRequest& request);

// The exit code when the options say two things about the image's format, which is told.
[[nodiscard]] std::optional<int> check_image_name(const ImageName& image);

// Reads the values that were put off. The exit code when one is wrong, or when the options say two
// things about the image's format, which is told.
[[nodiscard]] std::optional<int> settle_values(ImageRequest& request);

// Takes the image's name from the operands, and settles the values. The exit code when there is not
// one name, or when settling has failed.
[[nodiscard]] std::optional<int> take_image_name(const ImgCommandLine& line, ImageRequest& request);

// The options of subcommands that change what an image is stored in, and nothing of what it reads
// as.
inline constexpr std::array kInPlaceOptions = {
    kHelpOption,   kQuietOption,  kProgressOption,  kFormatOption,
    kObjectOption, kPolicyOption, kImageOptsOption, OptionSpec{'t', "cache", true}};

// Reads these and the image's name into `request`. The exit code when there is nothing more to do.
[[nodiscard]] std::optional<int> read_in_place(ImgCommandLine& line, ImageRequest& request);

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
