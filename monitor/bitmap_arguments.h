// What the commands about dirty bitmaps and the actions of transactions have in common: from names
// to nodes and bitmaps.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/dirty_bitmap_ops.h"
#include "block/node.h"
#include "monitor/services.h"
#include "schema/types_block_bitmap.h"

namespace cairn::monitor {

[[nodiscard]] Result<std::shared_ptr<block::Node>> find_bitmap_node(const Services& services,
                                                                    const std::string& name);
// The same in the words for what may be a device as well.
[[nodiscard]] Result<std::shared_ptr<block::Node>> find_bitmap_device(const Services& services,
                                                                      const std::string& name);

[[nodiscard]] block::NewBitmap new_bitmap(const schema::BlockDirtyBitmapAdd& arguments);

// A merge, and the nodes that it holds until it is done.
struct BitmapMerge {
  std::shared_ptr<block::Node> node;
  std::string target;
  std::vector<block::BitmapSource> sources;
  std::vector<std::shared_ptr<block::Node>> others;
};
[[nodiscard]] Result<BitmapMerge> find_merge(const Services& services,
                                             const schema::BlockDirtyBitmapMerge& arguments);

}  // namespace cairn::monitor
