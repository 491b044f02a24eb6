#include "tools/nbd/image.h"

#include <cerrno>
#include <cstdint>
#include <utility>

#include <fmt/format.h>

#include "block/filename.h"
#include "schema/json.h"
#include "schema/visit_block_options.h"
#include "tools/common/image.h"
#include "tools/common/overlay.h"
#include "tools/common/snapshots.h"

namespace cairn::tools {
namespace {

using NodePointer = std::shared_ptr<block::Node>;
using RootPointer = std::unique_ptr<block::Edge>;

block::OpenFlags served_flags(const NbdOptions& options) {
  return {.read_only = options.read_only || options.snapshot,
          .discard_unmap = options.discard.value_or(false),
          .cache_direct = options.cache.direct,
          .no_flush = options.cache.no_flush};
}

// What can be said of the options without looking at the image.
Result<void> check_served(const NbdOptions& options) {
  if (options.image.by_options && !options.image.format.empty()) {
    return fail(EINVAL, "--image-opts and -f are mutually exclusive");
  }
  if (options.aio == "native" && !options.cache.direct) {
    return fail(EINVAL,
                "Failed to blk_new_open '{}': aio=native was specified, but it requires "
                "cache.direct=on, which was not specified.",
                options.image.text);
  }
  if (options.offset > INT64_MAX) {
    return std::unexpected(
        Error(EINVAL, "Parameter 'offset' expects a non-negative number below 2^64")
            .with_hint(
                "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                "and exabytes, respectively."));
  }
  return {};
}

// What zeroes are looked for in: the uppermost layer that the options ask for.
enum class Layer : uint8_t { kImage, kOverlay, kPart };

NbdOptions::DetectZeroes detection(const NbdOptions& options, Layer layer) {
  const Layer top = options.offset != 0 ? Layer::kPart
                    : options.snapshot  ? Layer::kOverlay
                                        : Layer::kImage;
  return layer == top ? options.detect_zeroes : NbdOptions::DetectZeroes::kOff;
}

// The image with an option for its node.
Result<ImageName> with_detection(ImageName name, NbdOptions::DetectZeroes mode) {
  const std::string value(schema::to_string(mode));
  if (name.by_options) {
    name.text += ",detect-zeroes=" + value;
    return name;
  }
  const auto described = block::parse_filename(name.text);
  if (!described) {
    return std::unexpected(described.error());
  }
  schema::JsonValue file = schema::to_json(*described);
  schema::JsonObject object;
  if (block::is_json_filename(name.text)) {
    object = std::move(*file.as_object());
  } else {
    object.add("file", std::move(file));
    if (!name.format.empty()) {
      object.add("driver", name.format);
    }
  }
  (void)object.take("detect-zeroes");
  object.add("detect-zeroes", value);
  return ImageName{.text = "json:" + to_text(schema::JsonValue(std::move(object)))};
}

io::Task<Result<NodePointer>> open_bottom(block::Graph& graph, const NbdOptions& options) {
  Result<ImageName> name = options.image;
  const auto mode = detection(options, Layer::kImage);
  if (mode != NbdOptions::DetectZeroes::kOff) {
    name = with_detection(options.image, mode);
  }
  if (!name) {
    co_return pass(name);
  }
  Result<NodePointer> node = co_await open_image(graph, std::move(*name), served_flags(options));
  co_return node;
}

// The image and, with --snapshot, an overlay over it.
io::Task<Result<NodePointer>> open_layers(block::Graph& graph, const NbdOptions& options) {
  Result<NodePointer> node = co_await open_bottom(graph, options);
  if (node && options.snapshot) {
    Result<NodePointer> overlay =
        co_await open_overlay(graph, *node, detection(options, Layer::kOverlay));
    if (!overlay) {
      Result<void> released = co_await graph.release(std::move(*node));
    }
    node = std::move(overlay);
  }
  if (!node) {
    co_return pass(node, fmt::format("Failed to blk_new_open '{}': ", options.image.text));
  }
  co_return node;
}

// A root edge; gives the node back when there can be none.
io::Task<Result<RootPointer>> attach_served(block::Graph& graph, NodePointer node) {
  const block::Permissions permissions{
      .used = block::PermissionSet::kConsistentRead,
      .shared = block::PermissionSet::all().without(block::PermissionSet::kResize)};
  auto root = graph.attach(node, "", permissions);
  if (!root) {
    Result<void> released = co_await graph.release(std::move(node));
  }
  co_return root;
}

// The part of a node that begins at an offset. Takes `whole` in any case.
io::Task<Result<RootPointer>> open_part(block::Graph& graph, RootPointer whole,
                                        const NbdOptions& options) {
  schema::BlockdevOptionsRaw part;
  part.file.value = whole->node().name();
  part.offset = options.offset;
  schema::BlockdevOptions description;
  description.driver = schema::BlockdevDriver::kRaw;
  description.detect_zeroes = detection(options, Layer::kPart);
  description.branch = std::move(part);
  const block::NodeOptions below = whole->node().options();
  Result<NodePointer> node = co_await graph.open(description, {.read_only = below.read_only,
                                                               .discard_unmap = below.discard_unmap,
                                                               .cache_direct = below.cache_direct,
                                                               .no_flush = below.no_flush});
  Result<RootPointer> root = nullptr;
  if (node) {
    root = co_await attach_served(graph, std::move(*node));
  } else {
    root = pass(node);
  }
  Result<void> detached = co_await graph.detach(std::move(whole));
  co_return root;
}

}  // namespace

io::Task<Result<std::unique_ptr<block::Edge>>> open_served(block::Graph& graph,
                                                           const NbdOptions& options) {
  if (auto checked = check_served(options); !checked) {
    co_return pass(checked);
  }
  Result<NodePointer> node = co_await open_layers(graph, options);
  if (!node) {
    co_return pass(node);
  }
  Result<RootPointer> root = co_await attach_served(graph, std::move(*node));
  if (root && options.load_snapshot) {
    Result<void> shown = co_await show_snapshot(**root, *options.load_snapshot);
    if (!shown) {
      Result<void> detached = co_await graph.detach(std::move(*root));
      root = pass(shown);
    }
  }
  if (root && options.offset != 0) {
    root = co_await open_part(graph, std::move(*root), options);
  }
  co_return root;
}

}  // namespace cairn::tools
