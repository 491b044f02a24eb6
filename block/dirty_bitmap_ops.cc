#include "block/dirty_bitmap_ops.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/bitmap_store.h"
#include "block/dirty_bitmap.h"
#include "block/engine.h"
#include "block/node.h"
#include "block/request_scope.h"

namespace cairn::block {

namespace {

constexpr uint32_t kLeastDefault = 4096;
constexpr uint32_t kMostDefault = 65536;

Result<void> check_persistent(const Node& node, const NewBitmap& wanted, uint32_t granularity) {
  if (!node.active()) {
    return fail(EPERM, "Block node '{}' is inactive", node.name());
  }
  const BitmapStore* store = node.driver().bitmap_store();
  if (store == nullptr) {
    return fail(ENOTSUP, "Can't store persistent bitmaps to {}: Operation not supported",
                node.name());
  }
  if (auto can = store->can_add(wanted.name, granularity); !can) {
    return pass(
        can, fmt::format("Can't make bitmap '{}' persistent in '{}': ", wanted.name, node.name()));
  }
  return {};
}

Result<void> check_new(const Node& node, const NewBitmap& wanted) {
  if (node.bitmaps() != nullptr && node.bitmaps()->find(wanted.name) != nullptr) {
    return fail(EEXIST, "Bitmap already exists: {}", wanted.name);
  }
  if (wanted.name.size() > DirtyBitmap::kLongestName) {
    return fail(EINVAL, "Bitmap name too long: {}", wanted.name);
  }
  return {};
}

// As requests, operations wait while a drain is on, and a drain waits for them.

// Tells the image, when it keeps the bitmap. The bitmap may be gone afterwards.
io::Task<Result<void>> announce_change(Node& node, std::string name, bool switched_on) {
  const Result<DirtyBitmap*> bitmap = get_bitmap(node, name);
  BitmapStore* store = node.driver().bitmap_store();
  if (!bitmap || !(*bitmap)->persistent() || (*bitmap)->read_only() || store == nullptr) {
    co_return Result<void>{};
  }
  const bool records = switched_on || (*bitmap)->enabled();
  co_return co_await store->changing(std::move(name), records);
}

// A bitmap that may be changed now, the image knowing it.
io::Task<Result<DirtyBitmap*>> prepare_change(Node& node, std::string name,
                                              BitmapTolerance tolerance, bool switched_on = false) {
  Result<DirtyBitmap*> bitmap = get_bitmap(node, name);
  if (!bitmap) {
    co_return bitmap;
  }
  if (auto usable = (*bitmap)->check(tolerance); !usable) {
    co_return pass(usable);
  }
  Result<void> announced = co_await announce_change(node, name, switched_on);
  if (!announced) {
    co_return pass(announced);
  }
  // Somebody else may have come first meanwhile.
  bitmap = get_bitmap(node, name);
  if (bitmap) {
    if (auto usable = (*bitmap)->check(tolerance); !usable) {
      co_return pass(usable);
    }
  }
  co_return bitmap;
}

}  // namespace

uint32_t default_granularity(const Node& node) {
  const uint32_t cluster = node.driver().cluster_size();
  return cluster == 0 ? kMostDefault : std::clamp(cluster, kLeastDefault, kMostDefault);
}

Result<DirtyBitmap*> get_bitmap(const Node& node, std::string_view name) {
  static const DirtyBitmaps kNone;
  return (node.bitmaps() != nullptr ? *node.bitmaps() : kNone).get(name);
}

io::Task<Result<void>> add_bitmap(Node& node, NewBitmap wanted, DrainHolder drain) {
  if (drain == DrainHolder::kOther) {
    co_await Engine::admitted(node.graph());
  }
  const RequestScope scope(node);
  if (wanted.name.empty()) {
    co_return fail(EINVAL, "Bitmap name cannot be empty");
  }
  const uint64_t granularity = wanted.granularity.value_or(default_granularity(node));
  if (!DirtyBitmap::good_granularity(granularity)) {
    co_return fail(EINVAL, "Granularity must be power of 2 and at least 512");
  }
  const auto bytes = static_cast<uint32_t>(granularity);
  if (wanted.persistent) {
    if (auto can = check_persistent(node, wanted, bytes); !can) {
      co_return can;
    }
  }
  if (auto is_new = check_new(node, wanted); !is_new) {
    co_return is_new;
  }
  auto bitmap = std::make_unique<DirtyBitmap>(wanted.name, bytes, node.length());
  bitmap->set_enabled(!wanted.disabled);
  bitmap->set_persistent(wanted.persistent);
  // It records from here on, so that nothing is missed while the image is told.
  DirtyBitmap& added = node.add_bitmap(std::move(bitmap));
  if (wanted.persistent) {
    Result<void> stored;
    {
      const DirtyBitmap::Use use(added);
      stored = co_await node.driver().bitmap_store()->add(added);
    }
    if (!stored) {
      node.remove_bitmap(wanted.name);
      co_return pass(stored, fmt::format("Can't make bitmap '{}' persistent in '{}': ", wanted.name,
                                         node.name()));
    }
  }
  co_return Result<void>{};
}

io::Task<Result<void>> remove_bitmap(Node& node, std::string name, DrainHolder drain) {
  if (drain == DrainHolder::kOther) {
    co_await Engine::admitted(node.graph());
  }
  const RequestScope scope(node);
  const Result<DirtyBitmap*> bitmap = get_bitmap(node, name);
  if (!bitmap) {
    co_return std::unexpected(bitmap.error());
  }
  if (auto usable = (*bitmap)->check({.inconsistent = true}); !usable) {
    co_return usable;
  }
  if (BitmapStore* store = node.driver().bitmap_store();
      (*bitmap)->persistent() && store != nullptr) {
    const DirtyBitmap::Use use(**bitmap);
    Result<void> removed = co_await store->remove(name);
    if (!removed) {
      co_return removed;
    }
  }
  node.remove_bitmap(name);
  co_return Result<void>{};
}

io::Task<Result<void>> clear_bitmap(Node& node, std::string name, DrainHolder drain) {
  if (drain == DrainHolder::kOther) {
    co_await Engine::admitted(node.graph());
  }
  const RequestScope scope(node);
  const BitmapTolerance nothing;
  const Result<DirtyBitmap*> bitmap = co_await prepare_change(node, std::move(name), nothing);
  if (!bitmap) {
    co_return std::unexpected(bitmap.error());
  }
  (*bitmap)->clear();
  co_return Result<void>{};
}

io::Task<Result<void>> enable_bitmap(Node& node, std::string name, bool on, DrainHolder drain) {
  if (drain == DrainHolder::kOther) {
    co_await Engine::admitted(node.graph());
  }
  const RequestScope scope(node);
  const BitmapTolerance tolerance{.read_only = true};
  const Result<DirtyBitmap*> bitmap = co_await prepare_change(node, std::move(name), tolerance, on);
  if (!bitmap) {
    co_return std::unexpected(bitmap.error());
  }
  (*bitmap)->set_enabled(on);
  co_return Result<void>{};
}

namespace {

// The sources of a merge, all of them usable.
Result<std::vector<const DirtyBitmap*>> find_sources(const DirtyBitmap& target,
                                                     const std::vector<BitmapSource>& sources) {
  std::vector<const DirtyBitmap*> found;
  for (const BitmapSource& source : sources) {
    const Result<DirtyBitmap*> bitmap = get_bitmap(*source.node, source.name);
    if (!bitmap) {
      return std::unexpected(bitmap.error());
    }
    if (auto usable = (*bitmap)->check({.read_only = true}); !usable) {
      return pass(usable);
    }
    if (auto fits = check_mergeable(target, **bitmap); !fits) {
      return pass(fits);
    }
    found.push_back(*bitmap);
  }
  return found;
}

struct MarkedRun {
  uint64_t begin = 0;
  uint64_t end = 0;
};

// Where sources have marks of which a store does not know.
std::vector<MarkedRun> untold_marks(const BitmapStore& store,
                                    const std::vector<BitmapSource>& sources) {
  std::vector<MarkedRun> runs;
  for (const BitmapSource& source : sources) {
    const Result<DirtyBitmap*> bitmap = get_bitmap(*source.node, source.name);
    const uint64_t length = bitmap ? (*bitmap)->length() : 0;
    auto begin = bitmap ? (*bitmap)->next_marked(0, length) : std::nullopt;
    while (begin) {
      const uint64_t end = (*bitmap)->next_unmarked(*begin, length).value_or(length);
      if (!store.covers(*begin, end - *begin)) {
        runs.push_back({.begin = *begin, .end = end});
      }
      begin = (*bitmap)->next_marked(end, length);
    }
  }
  return runs;
}

// What the sources have marked will be marked in a bitmap that the image of `node` keeps. When this
// is done, the store knows all of it.
io::Task<Result<void>> announce_marks(Node& node, std::vector<BitmapSource> sources) {
  BitmapStore* const store = node.driver().bitmap_store();
  if (store == nullptr) {
    co_return Result<void>{};
  }
  // Sources record meanwhile.
  for (auto runs = untold_marks(*store, sources); !runs.empty();
       runs = untold_marks(*store, sources)) {
    for (const MarkedRun& run : runs) {
      store->expect(run.begin, run.end - run.begin);
    }
    for (const MarkedRun& run : runs) {
      Result<void> told = co_await store->cover(run.begin, run.end - run.begin);
      if (!told) {
        co_return told;
      }
    }
  }
  co_return Result<void>{};
}

}  // namespace

io::Task<Result<void>> merge_bitmaps(Node& node, std::string target,
                                     std::vector<BitmapSource> sources, DrainHolder drain) {
  if (drain == DrainHolder::kOther) {
    co_await Engine::admitted(node.graph());
  }
  const RequestScope scope(node);
  Result<DirtyBitmap*> into = get_bitmap(node, target);
  if (!into) {
    co_return pass(into);
  }
  // Looked at before the image is told, so that a request that can not be met changes nothing.
  if (const auto found = find_sources(**into, sources); !found) {
    co_return std::unexpected(found.error());
  }
  const BitmapTolerance nothing;
  into = co_await prepare_change(node, target, nothing);
  if (!into) {
    co_return pass(into);
  }
  if ((*into)->persistent()) {
    Result<void> told = co_await announce_marks(node, sources);
    if (!told) {
      co_return told;
    }
    // Somebody else may have come first meanwhile.
    into = get_bitmap(node, target);
    if (!into) {
      co_return pass(into);
    }
    if (auto usable = (*into)->check(nothing); !usable) {
      co_return usable;
    }
  }
  const auto found = find_sources(**into, sources);
  if (!found) {
    co_return std::unexpected(found.error());
  }
  for (const DirtyBitmap* source : *found) {
    (*into)->merge(*source);
  }
  co_return Result<void>{};
}

Result<void> read_bitmap(const Node& node, std::string_view name,
                         const std::function<void(std::span<const std::byte>)>& take) {
  const Result<DirtyBitmap*> bitmap = get_bitmap(node, name);
  if (!bitmap) {
    return std::unexpected(bitmap.error());
  }
  const SparseBits& bits = (*bitmap)->bits();
  std::array<std::byte, SparseBits::kChunkBits / 8> piece;
  const uint64_t length = align_up(bits.size(), 64) / 8;
  if (length == 0) {
    piece.fill(std::byte{0});
    take(std::span(piece).first(8));
  }
  for (uint64_t done = 0; done < length;) {
    const uint64_t here = std::min<uint64_t>(piece.size(), length - done);
    bits.copy_bytes(done * 8, std::span(piece).first(here));
    take(std::span(piece).first(here));
    done += here;
  }
  return {};
}

}  // namespace cairn::block
