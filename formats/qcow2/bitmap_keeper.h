// BitmapKeeper: the bitmaps that an image keeps (sections "Bitmaps extension" to "Bitmap data").
//
// The bits in use are in memory, with the node (block/dirty_bitmap.h). On disk a bitmap is either
// stored, and then exactly what it was when the image was last left alone, or marked as in use, and
// then nobody else believes it. What is stored of one in use, together with the map of
// write_intent.h, has at any time all that is marked in memory; that is how one is recovered:
//   loading   what is not in use is read; what is, too, with what the map has, if the map is to be
//             believed; else it is kept as an inconsistent bitmap
//   tracking  while any bitmap is in use, the map is told before the disk changes
//   marking   before the first write all bitmaps that record, before any other change the one that
//             changes: the flag in the directory, durable before the change
//   refreshing  now and then, and after commands, what is in memory is stored, although the bitmaps
//             stay in use, so that the map has little in it
//   storing   into the places it had as long as they fit, so that closing an image that could be
//             opened needs little room: data and counts, flush, table, flush, then the flag goes
//   adding, removing, and tables that move: a new directory beside the old one, and one switch of
//             the header's extension
// See docs/durability.md for why a power cut between any two of these steps is harmless.
//
//   bitmap_load.cc      reading, with everything checked
//   bitmap_keeper.cc    marking, adding, removing
//   bitmap_tracking.cc  the map: when it is kept, what it vouches for, refreshing
//   bitmap_store.cc     storing
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "block/bitmap_store.h"
#include "block/sparse_bits.h"
#include "formats/qcow2/bitmap_directory.h"
#include "formats/qcow2/image.h"
#include "formats/qcow2/reclaim.h"
#include "formats/qcow2/refcounts.h"
#include "formats/qcow2/write_intent.h"
#include "formats/qcow2/writeback.h"
#include "io/mutex.h"
#include "io/reactor.h"
#include "io/task.h"
#include "io/task_group.h"

namespace cairn::block {
class DirtyBitmap;
}

namespace cairn::qcow2 {

class BitmapKeeper final : public block::BitmapStore, private io::TimerEntry {
 public:
  BitmapKeeper(Image& image, Refcounts& refcounts, Reclaim& reclaim, Writeback& writeback)
      : image_(image),
        refcounts_(refcounts),
        reclaim_(reclaim),
        writeback_(writeback),
        intent_(image) {}
  ~BitmapKeeper() override { disarm(); }

  // Reads the directory and the tables, and gives the node its bitmaps that it does not have yet;
  // their bits, too, unless nobody is going to ask (`with_bits`). Damage is EINVAL; EFBIG when
  // there is too much of it all. Bitmaps that a program void of them has left behind are told of,
  // and ignored.
  [[nodiscard]] io::Task<Result<void>> load(bool with_bits);

  // What the image has, flags as on disk.
  [[nodiscard]] const std::vector<BitmapEntry>& entries() const { return entries_; }
  [[nodiscard]] uint64_t directory_offset() const { return directory_offset_; }
  [[nodiscard]] uint64_t directory_length() const { return directory_.size(); }

  // Takes all bitmaps out of the image, which is about to be of a kind that has none. The node
  // keeps them, in memory alone.
  [[nodiscard]] io::Task<Result<void>> remove_all();

  // Before the size of the disk changes, while nothing else does: marks all, and lets the map have
  // what a shrink leaves marked. Fails while a bitmap is busy or inconsistent.
  [[nodiscard]] io::Task<Result<void>> before_resize(uint64_t from, uint64_t to);

  // block::BitmapStore
  [[nodiscard]] bool supported() const override { return image_.header().version >= 3; }
  [[nodiscard]] Result<void> can_add(std::string_view name, uint32_t granularity) const override;
  [[nodiscard]] io::Task<Result<void>> add(const block::DirtyBitmap& bitmap) override;
  [[nodiscard]] io::Task<Result<void>> remove(std::string name) override;
  [[nodiscard]] io::Task<Result<void>> changing(std::string name, bool records) override;
  [[nodiscard]] bool covers(uint64_t offset, uint64_t length) const override {
    return tracking_ == Tracking::kOff ||
           (tracking_ == Tracking::kOn && intent_.covers(offset, length));
  }
  [[nodiscard]] io::Task<Result<void>> cover(uint64_t offset, uint64_t length) override;
  void expect(uint64_t offset, uint64_t length) override;
  [[nodiscard]] io::Task<Result<void>> store() override;
  // Ends what goes on in the background, when the image is not going to be stored any more.
  void stop() { disarm(); }

 private:
  using Outcome = io::Task<Result<void>>;
  using Table = std::vector<uint64_t>;
  // What all bitmaps of an image together may ask for while they are read: entries of tables, and
  // chunks of bits.
  struct Budget {
    uint64_t table_entries = uint64_t{1} << 24;
    uint64_t chunks = uint64_t{1} << 22;
    uint64_t clusters = 0;  // of data: no more than the file has
  };
  // Whether the map is kept: to be decided before the first write, not needed, or kept.
  static constexpr io::Duration kPeriod = std::chrono::seconds(30);
  static constexpr io::Duration kSoon = std::chrono::milliseconds(20);
  enum class Tracking : uint8_t { kUndecided, kOff, kOn };
  // What becomes of a bitmap that is stored.
  enum class Afterwards : uint8_t { kTrusted, kInUse };
  // A bitmap on its way to the disk.
  struct Storing {
    std::size_t index = 0;                  // of its entry
    bool whole = true;                      // else only where the map is going to drop something
    std::optional<block::SparseBits> bits;  // while they can not be read in place
    uint64_t losses = 0;                    // of the bitmap, when this began
    Table old_table;
    Table table;
    uint64_t table_offset = 0;  // where it goes; another one than the entry's when it moves
    std::vector<uint64_t> allocated;
  };

  [[nodiscard]] block::DirtyBitmap* bitmap(std::size_t index) const;
  [[nodiscard]] std::optional<std::size_t> index_of(std::string_view name) const;
  // Which of them the image does not, for sure, call in use, although it has to.
  [[nodiscard]] bool unmarked(std::size_t index) const {
    return !entries_[index].in_use() || !marks_durable_;
  }

  // bitmap_load.cc
  [[nodiscard]] Outcome load_directory(BitmapsExtension extension);
  [[nodiscard]] Outcome load_map();
  [[nodiscard]] Outcome load_bitmap(std::size_t index, bool with_bits, Budget& budget);
  [[nodiscard]] Outcome load_bits(std::size_t index, bool with_bits, block::DirtyBitmap& bitmap,
                                  Budget& budget);
  [[nodiscard]] Outcome recover_bits(std::size_t index, block::DirtyBitmap& bitmap, Budget& budget);
  [[nodiscard]] bool recoverable(std::size_t index) const;
  [[nodiscard]] io::Task<Result<Table>> read_table(const BitmapEntry& entry);
  [[nodiscard]] Outcome read_bits(const Table& table, block::DirtyBitmap& bitmap, Budget& budget);
  [[nodiscard]] bool in_file(uint64_t offset, uint64_t length) const;

  // bitmap_tracking.cc
  [[nodiscard]] Outcome before_first_write();
  [[nodiscard]] bool usable(std::size_t index) const;
  [[nodiscard]] std::vector<bool> vouched(const std::vector<BitmapEntry>& entries) const;
  [[nodiscard]] Outcome start_tracking(bool anything_written);
  [[nodiscard]] bool wants_map(const std::vector<BitmapEntry>& entries, uint64_t length) const;
  [[nodiscard]] Outcome expect_map();
  [[nodiscard]] Outcome vouch_for_map(bool on);
  void stop_tracking();
  [[nodiscard]] io::Task<void> end_tracking();
  void arm(io::Duration wait);
  void disarm();
  void on_expired() override;
  [[nodiscard]] io::Task<void> refresh();
  [[nodiscard]] Outcome refresh_marked();

  // Under mutex_ from here on.
  [[nodiscard]] Outcome mark(std::vector<std::size_t> indices);
  [[nodiscard]] Outcome write_directory_in_place();
  // Writes a directory of `entries` beside the one in use and switches to it.
  [[nodiscard]] Outcome switch_directory(std::vector<BitmapEntry> entries);
  [[nodiscard]] Outcome write_directory(const std::vector<BitmapEntry>& entries,
                                        const std::vector<std::byte>& bytes, uint64_t offset);
  void adopt_directory(std::vector<BitmapEntry> entries, std::vector<std::byte> bytes,
                       uint64_t offset);
  [[nodiscard]] Outcome write_padded(uint64_t offset, const std::vector<std::byte>& bytes);
  [[nodiscard]] Outcome release_now(uint64_t offset, uint64_t clusters);
  void free_later(uint64_t offset, uint64_t clusters);

  // bitmap_store.cc
  [[nodiscard]] Outcome store_marked(std::vector<Storing>& storing, Afterwards afterwards);
  [[nodiscard]] Outcome plan(Storing& storing);
  [[nodiscard]] io::Task<uint64_t> store_cluster(Storing& storing, uint64_t cluster);
  [[nodiscard]] io::Task<uint64_t> keep_or_store(Storing& storing, uint64_t cluster);
  [[nodiscard]] Outcome write_tables(std::vector<Storing>& storing, Afterwards afterwards);
  [[nodiscard]] Outcome write_entries(std::vector<BitmapEntry> entries, bool moved);
  void free_replaced(const Storing& storing, const BitmapEntry& before);

  Image& image_;
  Refcounts& refcounts_;
  Reclaim& reclaim_;
  Writeback& writeback_;
  io::AsyncMutex mutex_;
  std::vector<BitmapEntry> entries_;
  std::vector<std::byte> directory_;  // as on disk
  uint64_t directory_offset_ = 0;
  // A directory that was written in place is as in memory; false after an error.
  bool marks_durable_ = true;

  WriteIntent intent_;
  Tracking tracking_ = Tracking::kOff;
  // Of bitmaps, by name, when they were last stored as a whole.
  std::unordered_map<std::string, uint64_t> stored_losses_;
  bool armed_ = false;
  io::TimePoint expiry_;     // when armed
  bool round_open_ = false;  // of the map
  bool hurry_ = false;       // a command has changed something
  io::TaskGroup work_;
};

}  // namespace cairn::qcow2
