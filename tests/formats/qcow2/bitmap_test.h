// BitmapWorld: a qcow2 image with persistent bitmaps, on a simulated file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/layout.h"
#include "io/timer.h"
#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {

// An image world with bitmaps by name.
class BitmapWorld : public ImageWorld {
 public:
  using ImageWorld::ImageWorld;
  [[nodiscard]] block::Node& node() { return edge().node(); }
  Result<void> add(std::string name, std::optional<uint64_t> granularity = {}) {
    return run(block::add_bitmap(
        node(), {.name = std::move(name), .granularity = granularity, .persistent = true}));
  }
  [[nodiscard]] block::DirtyBitmap* find(std::string_view name) {
    const auto found = block::get_bitmap(node(), name);
    return found ? *found : nullptr;
  }
  // Whether the file, as it is now, calls the bitmap in use.
  [[nodiscard]] std::optional<bool> in_use_on_disk(std::string_view name) {
    for (const BitmapEntry& entry : driver().bitmaps().entries()) {
      if (entry.name == name) {
        return entry.in_use();
      }
    }
    return std::nullopt;
  }
  // The image is left as it is by a crash: what was written last, and is not durable, may be lost.
  void crash() {
    world().cut_power();
    static_cast<void>(close());
    world().restore_power();
  }
  void sleep(io::Duration time) { run(sleep_task(time)); }

 private:
  static io::Task<void> sleep_task(io::Duration time) {
    static_cast<void>(co_await io::sleep_for(time));
  }
};

// What a program does that knows of bitmaps, and of nothing that is ours, when it opens an image
// for writing.
inline void opened_by_another_program(testing::SimulatedFile& file) {
  std::vector<std::byte> known(8);
  known[7] = std::byte{kAutoclearBitmaps};
  const auto change = file.disk.begin_write(header_offset::kAutoclear, known);
  file.disk.apply(change);
  file.disk.complete(change, true);
}

}  // namespace cairn::qcow2
