// DirtyBitmap: which parts of a node were written to; and DirtyBitmaps, those of one node.
//
// The choke point marks every request that may change data twice: when it is let in, so that no
// observer finds a change that is not marked, and when it is done, so that a bitmap that was made
// or cleared meanwhile has it, too. Failed requests count: what they left behind is not known.
//
// A bitmap is
//   enabled, or not         whether it records
//   busy                    some operation works with it: nobody else may
//   read-only               the image it is stored in can not be written
//   inconsistent            it was not stored in order: good for nothing but removal
//   persistent              the image keeps it (block/bitmap_store.h)
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "block/sparse_bits.h"

namespace cairn::block {

// States of a bitmap that an operation bears with.
struct BitmapTolerance {
  bool read_only = false;
  bool inconsistent = false;
};

class DirtyBitmap {
 public:
  static constexpr uint32_t kLeastGranularity = 512;
  static constexpr uint32_t kMostGranularity = uint32_t{1} << 31;
  static constexpr std::size_t kLongestName = 1023;

  // `granularity` is a power of two within the limits; `length` that of the node. All in bytes.
  DirtyBitmap(std::string name, uint32_t granularity, uint64_t length);

  [[nodiscard]] static bool good_granularity(uint64_t granularity);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] uint32_t granularity() const { return uint32_t{1} << shift_; }
  [[nodiscard]] uint64_t length() const { return length_; }
  // Bytes that are marked, in whole granules.
  [[nodiscard]] uint64_t count() const { return bits_.count() << shift_; }

  [[nodiscard]] bool enabled() const { return enabled_; }
  void set_enabled(bool on) { enabled_ = on; }
  // It marks writes.
  [[nodiscard]] bool recording() const { return enabled_ && !inconsistent_; }
  [[nodiscard]] bool persistent() const { return persistent_; }
  void set_persistent(bool on) { persistent_ = on; }
  [[nodiscard]] bool read_only() const { return read_only_; }
  void set_read_only(bool on) { read_only_ = on; }
  [[nodiscard]] bool inconsistent() const { return inconsistent_; }
  // Drops what it holds.
  void set_inconsistent();
  [[nodiscard]] bool busy() const { return users_ != 0; }

  // Keeps everybody else from using a bitmap while it lives.
  class Use {
   public:
    explicit Use(DirtyBitmap& bitmap) : bitmap_(&bitmap) { ++bitmap.users_; }
    Use(Use&& other) noexcept : bitmap_(std::exchange(other.bitmap_, nullptr)) {}
    Use& operator=(Use&&) = delete;
    ~Use() {
      if (bitmap_ != nullptr) {
        --bitmap_->users_;
      }
    }

   private:
    DirtyBitmap* bitmap_;
  };

  // EBUSY, EPERM or EINVAL with the field's words for what an operation does not bear with.
  [[nodiscard]] Result<void> check(BitmapTolerance tolerance = {}) const;

  // Byte ranges; a granule that is touched is marked whole, and unmarked when it is covered whole
  // (the node's end covers the rest of the last one).
  void mark(uint64_t offset, uint64_t length);
  void unmark(uint64_t offset, uint64_t length);
  void clear() {
    bits_.clear_all();
    ++losses_;
  }
  [[nodiscard]] bool marked(uint64_t offset) const { return bits_.test(offset >> shift_); }
  // The first marked, or unmarked, byte in [from, end); nothing when there is none.
  [[nodiscard]] std::optional<uint64_t> next_marked(uint64_t from, uint64_t end) const;
  [[nodiscard]] std::optional<uint64_t> next_unmarked(uint64_t from, uint64_t end) const;

  // For work that goes by what is marked: from gather_aside() on that stays as it is, and changes
  // are gathered aside until one of the others is called. The work uses the bitmap meanwhile.
  void gather_aside();
  void merge_aside();  // what was gathered is marked, too
  void adopt_aside();  // what was gathered is all that is marked
  [[nodiscard]] bool gathering() const { return aside_.has_value(); }
  // What is marked, with what was gathered.
  [[nodiscard]] SparseBits everything() const;

  // Goes up when bits may have been unmarked: what was stored before may have more than there is.
  [[nodiscard]] uint64_t losses() const { return losses_; }

  // The node's length changed; what is added is not marked.
  void resize(uint64_t length);
  // Marks what `other`, a bitmap for the same length, has marked.
  void merge(const DirtyBitmap& other);

  // The bits themselves, one a granule: for storing, and to keep the state before a change.
  [[nodiscard]] SparseBits& bits() { return bits_; }
  [[nodiscard]] const SparseBits& bits() const { return bits_; }

 private:
  [[nodiscard]] uint64_t bits_for(uint64_t length) const;

  std::string name_;
  unsigned shift_;
  uint64_t length_;
  SparseBits bits_;
  std::optional<SparseBits> aside_;
  bool enabled_ = true;
  bool persistent_ = false;
  bool read_only_ = false;
  bool inconsistent_ = false;
  uint64_t losses_ = 0;
  int users_ = 0;
};

// The lengths differ: EINVAL in the field's words.
[[nodiscard]] Result<void> check_mergeable(const DirtyBitmap& target, const DirtyBitmap& source);

class DirtyBitmaps {
 public:
  [[nodiscard]] bool empty() const { return bitmaps_.empty(); }
  // Oldest first.
  [[nodiscard]] const std::vector<std::unique_ptr<DirtyBitmap>>& all() const { return bitmaps_; }
  // Null when there is none.
  [[nodiscard]] DirtyBitmap* find(std::string_view name) const;
  // ENOENT with the field's words.
  [[nodiscard]] Result<DirtyBitmap*> get(std::string_view name) const;

  DirtyBitmap& add(std::unique_ptr<DirtyBitmap> bitmap);
  void remove(std::string_view name);
  // All that are kept in the image, oldest first.
  [[nodiscard]] std::vector<std::unique_ptr<DirtyBitmap>> take_persistent();

  // A request changes, or has changed, a range of the node, which has `node_length` bytes.
  void mark(uint64_t offset, uint64_t length, uint64_t node_length);
  void resize(uint64_t length);

 private:
  std::vector<std::unique_ptr<DirtyBitmap>> bitmaps_;
};

}  // namespace cairn::block
