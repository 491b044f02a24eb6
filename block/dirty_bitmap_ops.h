// What commands and tools do with the dirty bitmaps of nodes: one place for the checks, their order
// and their words, and for keeping images informed of what happens to persistent bitmaps.
//
// Nodes outlive the tasks. A failure changes nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "io/task.h"

namespace cairn::block {

class DirtyBitmap;
class Node;

struct NewBitmap {
  std::string name;
  std::optional<uint64_t> granularity;  // bytes; default_granularity() when not given
  bool persistent = false;
  bool disabled = false;
};

struct BitmapSource {
  Node* node = nullptr;
  std::string name;
};

// The image's cluster size within 4 KiB and 64 KiB; 64 KiB for what has no clusters.
[[nodiscard]] uint32_t default_granularity(const Node& node);

// ENOENT in the field's words when the node has no such bitmap.
[[nodiscard]] Result<DirtyBitmap*> get_bitmap(const Node& node, std::string_view name);

// As requests, these wait while a drain is on, unless whoever asks holds it.
enum class DrainHolder : uint8_t { kOther, kCaller };

[[nodiscard]] io::Task<Result<void>> add_bitmap(Node& node, NewBitmap wanted,
                                                DrainHolder drain = DrainHolder::kOther);
[[nodiscard]] io::Task<Result<void>> remove_bitmap(Node& node, std::string name,
                                                   DrainHolder drain = DrainHolder::kOther);
[[nodiscard]] io::Task<Result<void>> clear_bitmap(Node& node, std::string name,
                                                  DrainHolder drain = DrainHolder::kOther);
[[nodiscard]] io::Task<Result<void>> enable_bitmap(Node& node, std::string name, bool on,
                                                   DrainHolder drain = DrainHolder::kOther);
// Marks in the target what any of the sources has marked.
[[nodiscard]] io::Task<Result<void>> merge_bitmaps(Node& node, std::string target,
                                                   std::vector<BitmapSource> sources,
                                                   DrainHolder drain = DrainHolder::kOther);

// Hands all bits, as 64-bit words in little-endian order and at least one, to `take`, piece by
// piece.
[[nodiscard]] Result<void> read_bitmap(const Node& node, std::string_view name,
                                       const std::function<void(std::span<const std::byte>)>& take);

}  // namespace cairn::block
