#include "exports/nbd/export_options.h"

#include <cerrno>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/nbd_protocol.h"
#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "block/graph.h"
#include "schema/types_block_export.h"

namespace cairn::nbd {
namespace {

struct FoundBitmap {
  std::shared_ptr<block::Node> node;
  block::DirtyBitmap* bitmap = nullptr;
};

// A bitmap of the node itself, or of one down its backing chain: the nearest.
Result<FoundBitmap> find_along_chain(const block::Edge& root, const std::string& name) {
  for (const block::Edge* edge = &root; edge != nullptr; edge = edge->node().backing()) {
    const block::DirtyBitmaps* bitmaps = edge->node().bitmaps();
    block::DirtyBitmap* const bitmap = bitmaps != nullptr ? bitmaps->find(name) : nullptr;
    if (bitmap != nullptr) {
      return FoundBitmap{edge->shared_node(), bitmap};
    }
  }
  return fail(ENOENT, "Bitmap '{}' is not found", name);
}

Result<FoundBitmap> find_by_node(const block::Graph& graph,
                                 const schema::BlockDirtyBitmap& wanted) {
  std::shared_ptr<block::Node> node = graph.find(wanted.node);
  if (node == nullptr) {
    return fail(ENOENT, "Node '{}' not found", wanted.node);
  }
  auto bitmap = block::get_bitmap(*node, wanted.name);
  if (!bitmap) {
    return pass(bitmap);
  }
  return FoundBitmap{std::move(node), *bitmap};
}

Result<FoundBitmap> find_bitmap(const schema::BlockDirtyBitmapOrStr& wanted,
                                const exports::ExportSettings& settings, const block::Edge& root) {
  const auto* local = std::get_if<std::string>(&wanted.value);
  auto found = local != nullptr ? find_along_chain(root, *local)
                                : find_by_node(root.node().graph(),
                                               std::get<schema::BlockDirtyBitmap>(wanted.value));
  if (!found) {
    return found;
  }
  if (auto usable = found->bitmap->check({.read_only = true}); !usable) {
    return pass(usable);
  }
  // Clients of an export that can not be written expect that nothing changes. Who names the node
  // is taken to know better.
  if (local != nullptr && !settings.writable && !found->node->read_only() &&
      found->bitmap->enabled()) {
    return fail(EINVAL, "Enabled bitmap '{}' incompatible with readonly export",
                found->bitmap->name());
  }
  return found;
}

// The export's own root may come to point to another node, which is put above this one.
std::vector<ExportedBitmap> take_bitmaps(const std::vector<FoundBitmap>& found) {
  std::vector<ExportedBitmap> taken;
  for (const FoundBitmap& one : found) {
    taken.push_back(
        {block::Graph::hold(one.node), one.bitmap, block::DirtyBitmap::Use(*one.bitmap)});
  }
  return taken;
}

}  // namespace

Result<NbdView> make_view(const schema::BlockExportOptions& options,
                          const exports::ExportSettings& settings, const block::Edge& root) {
  NbdView view;
  view.name = settings.node_name;
  const auto* own = std::get_if<schema::BlockExportOptionsNbd>(&options.branch);
  if (own != nullptr) {
    view.name = own->name.value_or(view.name);
    view.description = own->description.value_or("");
    view.allocation_depth = own->allocation_depth.value_or(false);
  }
  if (view.name.size() > kMaxString) {
    return fail(EINVAL, "export name '{}' too long", view.name);
  }
  if (view.description.size() > kMaxString) {
    return fail(EINVAL, "description '{}' too long", view.description);
  }
  if (own == nullptr || !own->bitmaps) {
    return view;
  }
  // One that is named twice is there twice, so look before taking.
  std::vector<FoundBitmap> found;
  for (const schema::BlockDirtyBitmapOrStr& wanted : *own->bitmaps) {
    auto one = find_bitmap(wanted, settings, root);
    if (!one) {
      return pass(one);
    }
    found.push_back(std::move(*one));
  }
  view.bitmaps = take_bitmaps(found);
  return view;
}

}  // namespace cairn::nbd
