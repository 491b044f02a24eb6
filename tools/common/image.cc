#include "tools/common/image.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include <fmt/ranges.h>

#include "block/filename.h"
#include "formats/raw/probed_raw_driver.h"
#include "schema/json.h"
#include "schema/keyval.h"
#include "tools/common/described_image.h"
#include "tools/common/image_options.h"

namespace cairn::tools {
namespace {

using block::PermissionSet;
using schema::JsonObject;

// An image that is to be written can not be one that must not be.
Result<void> check_access(const block::Node& node, const block::OpenFlags& flags) {
  if (!flags.read_only && node.read_only()) {
    return fail(EPERM, "Block node is read-only");
  }
  return {};
}

void warn_of_guess(std::string_view filename) {
  std::fflush(stdout);
  fmt::print(stderr,
             "WARNING: Image format was not specified for '{}' and probing guessed raw.\n"
             "         Automatically detecting the format is dangerous for raw images, write "
             "operations on block 0 will be restricted.\n"
             "         Specify the 'raw' format explicitly to remove the restrictions.\n",
             filename);
}

// Whether a list of options says that others may not write meanwhile. What comes last counts.
bool keeps_others_out(std::string_view options) {
  constexpr std::string_view kOption = "force-share=";
  bool kept_out = false;
  while (!options.empty()) {
    const std::string part = schema::take_keyval_part(options);
    if (part.starts_with(kOption)) {
      kept_out = part != "force-share=on";
    }
  }
  return kept_out;
}

}  // namespace

Result<void> check_sharing(const ImageName& name, const block::OpenFlags& flags,
                           std::string_view flag) {
  if (name.by_options && flags.force_share && keeps_others_out(name.text)) {
    return fail(EINVAL, "{} conflicts with image options", flag);
  }
  return {};
}

io::Task<Result<std::shared_ptr<block::Node>>> open_image(block::Graph& graph, ImageName name,
                                                          block::OpenFlags flags) {
  const std::optional<std::vector<std::string>>& formats = graph.open_policy().formats;
  if (!name.format.empty() && formats && !formats->empty() &&
      std::ranges::find(*formats, name.format) == formats->end()) {
    co_return fail(EPERM, "Format '{}' is none of those that are allowed: {}", name.format,
                   fmt::join(*formats, ", "));
  }
  Result<std::shared_ptr<block::Node>> node = nullptr;
  const bool no_format = name.format_given && name.format.empty();
  if (name.by_options || block::is_json_filename(name.text)) {
    Result<JsonObject> options = name.by_options ? parse_option_string(name.text, name.implied_key)
                                                 : parse_json_name(name.text);
    if (!options) {
      co_return pass(options);
    }
    if (no_format) {
      co_return fail(ENOENT, "Unknown driver ''");
    }
    if (!name.format.empty()) {
      put(*options, "driver", name.format);
    }
    node = co_await open_described_image(graph, std::move(*options), flags);
  } else if (no_format) {
    co_return fail(ENOENT, "Unknown driver ''");
  } else {
    node = co_await graph.open_filename(name.text, name.format, flags);
  }
  if (node && !name.guess_told &&
      dynamic_cast<const raw::ProbedRawDriver*>(&(*node)->driver()) != nullptr) {
    warn_of_guess((*node)->filename());
  }
  co_return node;
}

io::Task<Error> refuse_open(block::Graph& graph, ImageName name, block::OpenFlags flags,
                            std::string_view why) {
  name.guess_told = true;
  if (!name.format.empty() && graph.drivers().find(name.format) == nullptr) {
    co_return Error(ENOENT, fmt::format("Unknown driver '{}'", name.format));
  }
  const bool described = name.by_options || block::is_json_filename(name.text);
  if (!described && !(name.format_given && name.format.empty()) &&
      block::protocol_prefix(name.text).empty()) {
    name.give_format("file");  // what the file holds does not matter
  }
  const bool no_format = name.format_given && name.format.empty();
  Result<JsonObject> file;
  if (described && !no_format) {
    file = name.by_options ? parse_option_string(name.text, name.implied_key)
                           : parse_json_name(name.text);
  }
  Result<std::shared_ptr<block::Node>> node = nullptr;
  if (file) {
    *file = file_alone(graph, *file);
  }
  if (!file) {
    node = pass(file);
  } else if (!file->empty()) {
    node = co_await open_described_image(graph, std::move(*file), flags);
  } else {
    node = co_await open_image(graph, std::move(name), flags);
  }
  if (!node) {
    co_return std::move(node.error());
  }
  Result<void> released = co_await graph.release(std::move(*node));
  static_cast<void>(released);
  co_return Error(EINVAL, std::string(why));
}

Error could_not_open(const ImageName& name, Error error) {
  return std::move(error).prefix(fmt::format("Could not open '{}': ", name.text));
}

block::Permissions root_permissions(const block::Node& node, Sharing sharing) {
  block::Permissions permissions{.used = PermissionSet::kConsistentRead,
                                 .shared = PermissionSet::all()};
  if (!node.read_only()) {
    permissions.used |= PermissionSet::kWrite;
    sharing = Sharing::kNoWriters;
  }
  if (sharing == Sharing::kNoWriters && !node.options().force_share) {
    permissions.shared = PermissionSet::kConsistentRead | PermissionSet::kWriteUnchanged;
  }
  return permissions;
}

io::Task<Result<std::unique_ptr<block::Edge>>> open_root(block::Graph& graph, ImageName name,
                                                         block::OpenFlags flags, Sharing sharing) {
  if (auto agreed = check_sharing(name, flags, "--force-share/-U"); !agreed) {
    co_return pass(agreed);
  }
  Result<std::shared_ptr<block::Node>> node = co_await open_image(graph, name, flags);
  if (!node) {
    co_return std::unexpected(could_not_open(name, std::move(node.error())));
  }
  const block::Permissions permissions = root_permissions(**node, sharing);
  Result<std::unique_ptr<block::Edge>> edge;
  if (auto possible = check_access(**node, flags); possible) {
    edge = graph.attach(*node, "", permissions);
  } else {
    edge = std::unexpected(possible.error());
  }
  if (!edge) {
    Result<void> released = co_await graph.release(std::move(*node));
    co_return std::unexpected(could_not_open(name, std::move(edge.error())));
  }
  co_return std::move(*edge);
}

io::Task<Result<std::unique_ptr<block::Edge>>> open_unfiltered(block::Graph& graph, ImageName name,
                                                               block::OpenFlags flags) {
  if (auto agreed = check_sharing(name, flags, "--force-share/-U"); !agreed) {
    co_return pass(agreed);
  }
  Result<std::shared_ptr<block::Node>> top = co_await open_image(graph, name, flags);
  if (!top) {
    co_return std::unexpected(could_not_open(name, std::move(top.error())));
  }
  std::shared_ptr<block::Node> node = *top;
  while (node->info().kind == block::DriverInfo::Kind::kFilter && node->backing() != nullptr) {
    node = node->backing()->shared_node();
  }
  Result<std::unique_ptr<block::Edge>> edge;
  if (auto possible = check_access(*node, flags); possible) {
    edge = graph.attach(node, "", root_permissions(*node));
  } else {
    edge = std::unexpected(possible.error());
  }
  // The filters go; so does the image, when nobody could be attached to it.
  Result<void> released = co_await graph.release(std::move(*top));
  if (!edge) {
    co_return std::unexpected(could_not_open(name, std::move(edge.error())));
  }
  co_return std::move(*edge);
}

}  // namespace cairn::tools
