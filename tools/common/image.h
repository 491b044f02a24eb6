// Opening images as command lines name them: by filename and format, or by an option string.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "block/graph.h"
#include "io/task.h"

namespace cairn::tools {

struct ImageName {
  std::string text;         // a filename, or "driver=qcow2,file.filename=…" when by_options
  std::string format;       // empty: find out from the content
  bool by_options = false;  // --image-opts
  std::string_view implied_key = "file";  // of the first part of a list of options
  bool guess_told = false;                // that its format is a guess
  bool format_given = false;              // by the user: then an empty one is none that exists

  void give_format(const std::string& given) {
    format = given;
    format_given = true;
  }
};

// Opens an image. The message of a failure does not repeat the image's name; see could_not_open().
[[nodiscard]] io::Task<Result<std::shared_ptr<block::Node>>> open_image(block::Graph& graph,
                                                                        ImageName name,
                                                                        block::OpenFlags flags);

// Refuses `flag`, which asks that others may write meanwhile (OpenFlags::force_share), for an image
// whose list of options says that they may not.
[[nodiscard]] Result<void> check_sharing(const ImageName& name, const block::OpenFlags& flags,
                                         std::string_view flag);

// Why an image is not opened, for the reason `why`, a literal: what is wrong with its file comes
// first.
[[nodiscard]] io::Task<Error> refuse_open(block::Graph& graph, ImageName name,
                                          block::OpenFlags flags, std::string_view why);
inline constexpr std::string_view kNativeThroughCache =
    "aio=native was specified, but it requires cache.direct=on, which was not specified.";

// "Could not open 'NAME': …", as the offline tool says it.
[[nodiscard]] Error could_not_open(const ImageName& name, Error error);

enum class Sharing : uint8_t {
  kUsual,      // who reads lets others do to the image what they like, who writes is alone in that
  kNoWriters,  // nobody else writes, unless the user says that it may happen (force-share)
};

// What a program uses of an image and what it lets others do meanwhile: read alone, or write, too.
// Formats with metadata of their own let nobody else write, whatever is said here.
[[nodiscard]] block::Permissions root_permissions(const block::Node& node,
                                                  Sharing sharing = Sharing::kUsual);

// Opens and attaches in one go; failures carry could_not_open()'s words, but for check_sharing()'s.
[[nodiscard]] io::Task<Result<std::unique_ptr<block::Edge>>> open_root(
    block::Graph& graph, ImageName name, block::OpenFlags flags, Sharing sharing = Sharing::kUsual);

// The same, of the image below the filters that the name may describe: for what concerns images as
// files rather than what they hold.
[[nodiscard]] io::Task<Result<std::unique_ptr<block::Edge>>> open_unfiltered(
    block::Graph& graph, ImageName name, block::OpenFlags flags);

}  // namespace cairn::tools
