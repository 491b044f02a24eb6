#include "jobs/chain.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "block/driver_table.h"
#include "block/filename.h"

namespace cairn::jobs {
namespace {

// Null when the node is no filter.
const block::Edge* filtered_edge(const block::Node& node) {
  if (node.info().kind != block::DriverInfo::Kind::kFilter) {
    return nullptr;
  }
  const auto found = std::ranges::find_if(node.children(), [](const auto& edge) {
    return edge->role() == block::ChildRole::kFiltered;
  });
  return found == node.children().end() ? nullptr : found->get();
}

bool is_plain_path(std::string_view filename) {
  return !filename.empty() && !block::is_json_filename(filename) &&
         block::protocol_prefix(filename).empty();
}

}  // namespace

std::shared_ptr<block::Node> below_filters(std::shared_ptr<block::Node> node) {
  while (node != nullptr) {
    const block::Edge* edge = filtered_edge(*node);
    if (edge == nullptr) {
      break;
    }
    node = edge->shared_node();
  }
  return node;
}

std::shared_ptr<block::Node> behind(const block::Node& image) {
  const block::Edge* backing = image.child("backing");
  const bool in_chain = backing != nullptr && backing->role() == block::ChildRole::kBacking;
  return in_chain ? backing->shared_node() : nullptr;
}

std::shared_ptr<block::Node> image_behind(const block::Node& image) {
  return below_filters(behind(image));
}

bool in_chain(const block::Node& top, const block::Node& node) {
  for (const block::Node* step = &top; step != nullptr;) {
    if (step == &node) {
      return true;
    }
    const block::Edge* down = filtered_edge(*step);
    if (down == nullptr) {
      down = step->child("backing");
    }
    step = down != nullptr ? &down->node() : nullptr;
  }
  return false;
}

std::shared_ptr<block::Node> image_above(std::shared_ptr<block::Node> top,
                                         const block::Node& node) {
  for (top = below_filters(std::move(top)); top != nullptr; top = image_behind(*top)) {
    // It may be the image that is behind, or one of the filters on the way there.
    for (auto step = behind(*top); step != nullptr;) {
      if (step.get() == &node) {
        return top;
      }
      const block::Edge* down = filtered_edge(*step);
      step = down != nullptr ? down->shared_node() : nullptr;
    }
  }
  return nullptr;
}

std::shared_ptr<block::Node> find_behind(const block::Node& top, std::string_view filename) {
  const block::Node* above = &top;
  for (auto image = image_behind(*above); image != nullptr; image = image_behind(*above)) {
    if (same_image(image->filename(), filename) || above->driver().backing_filename() == filename) {
      return image;
    }
    above = image.get();
  }
  return nullptr;
}

bool same_image(std::string_view one, std::string_view other) {
  if (one == other) {
    return true;
  }
  if (!is_plain_path(one) || !is_plain_path(other)) {
    return false;
  }
  std::error_code error;
  return std::filesystem::equivalent(one, other, error);
}

}  // namespace cairn::jobs
