// BitmapStore: how a driver keeps dirty bitmaps in its image. Driver::bitmap_store() gives it.
//
// The bits of persistent bitmaps live in memory, with the node. The image says which bitmaps it has
// and, of each, whether what is stored is to be trusted. Before a bitmap changes in memory the
// image says, durably, that it is in use. From then on until it is stored again the store is told
// of every part of the disk before it changes, so that a crash leaves a bitmap with too much
// marked, or one that is known to be inconsistent, and never one with bits missing.
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
  // Bits or state of the bitmap are about to change; `records`: it will record afterwards.
  [[nodiscard]] virtual io::Task<Result<void>> changing(std::string name, bool records) = 0;

  // The store knows that the disk, or bits of bitmaps, may change in this range, which is not
  // empty. Asked for every change of a node with bitmaps: no more than a look at a few bits.
  [[nodiscard]] virtual bool covers(uint64_t offset, uint64_t length) const = 0;
  // Tells it, durably. A failure is one of the change, which must not happen.
  [[nodiscard]] virtual io::Task<Result<void>> cover(uint64_t offset, uint64_t length) = 0;
  // Says that a range will be told with cover(), so that several go together.
  virtual void expect(uint64_t offset, uint64_t length) = 0;
  // Stores what has changed: the image takes no writes, or is about to be closed.
  [[nodiscard]] virtual io::Task<Result<void>> store() = 0;
};

}  // namespace cairn::block
