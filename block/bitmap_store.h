// BitmapStore: how a driver keeps dirty bitmaps in its image. Driver::bitmap_store() gives it.
//
// The bits of persistent bitmaps live in memory, with the node. The image says which bitmaps it has
// and, of each, whether what is stored is to be trusted. Before a bitmap changes in memory the
// image says, durably, that it is in use; from then on until it is stored again a crash leaves it
// inconsistent, and never with bits missing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "io/task.h"

namespace cairn::block {

class DirtyBitmap;

class BitmapStore {
 public:
  virtual ~BitmapStore() = default;

  // Images of this kind can have bitmaps.
  [[nodiscard]] virtual bool supported() const = 0;
  // A bitmap of this name and granularity (bytes) could be added.
  [[nodiscard]] virtual Result<void> can_add(std::string_view name, uint32_t granularity) const = 0;

  // Names `bitmap`, which the node does not have yet, in the image: as one that is in use. It
  // outlives the task.
  [[nodiscard]] virtual io::Task<Result<void>> add(const DirtyBitmap& bitmap) = 0;
  // Takes a bitmap out of the image, for good.
  [[nodiscard]] virtual io::Task<Result<void>> remove(std::string name) = 0;
  // Bits or state of the bitmap are about to change.
  [[nodiscard]] virtual io::Task<Result<void>> changing(std::string name) = 0;
  // Stores what has changed: the image takes no writes, or is about to be closed.
  [[nodiscard]] virtual io::Task<Result<void>> store() = 0;
};

}  // namespace cairn::block
