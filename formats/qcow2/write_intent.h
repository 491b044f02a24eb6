// WriteIntent: which parts of the disk may have changed since the bits of the image's bitmaps were
// stored, on disk before the change is.
//
// The disk is cut into groups, a bit each. A write may go ahead when the bits of its groups are
// durable; those of several writes go out together, and a group that has its bit costs nothing any
// more. So whatever happens, the stored bits of a bitmap that is in use, together with this map,
// have everything that its bits in memory had.
//
// The map lies where nobody else looks: at the end of the last cluster of the bitmap directory,
// behind its entries.
//
//     … entries … | bits of the groups, whole sectors | head, one sector | end of the cluster
//
// It is to be believed while the autoclear bit kAutoclearWriteIntent is set, which every program
// that does not know it clears when it opens the image for writing.
//
// A round moves what the stored bits have by now out of the map: begin_round() demands that every
// group is announced anew, which costs nothing as long as its bit is still on disk; when the bits
// in memory have been stored, end_round() drops what was not announced.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "formats/qcow2/image.h"
#include "io/mutex.h"
#include "io/task.h"

namespace cairn::block {
class DirtyBitmap;
}

namespace cairn::qcow2 {

// The head of the map.
struct IntentHead {
  static constexpr uint32_t kSize = 512;
  // Entries of the directory beyond these can not be vouched for.
  static constexpr std::size_t kMostEntries = 3584;
  static constexpr uint32_t kMostSectors = 16;
  static constexpr uint32_t kLeastGroupBits = 12;
  static constexpr uint32_t kMostGroupBits = 62;

  uint64_t directory_offset = 0;
  uint32_t group_bits = 0;  // a group has 2^group_bits bytes; the last one goes on without end
  uint32_t sectors = 0;     // of bits, before the head
  // The stored bits of these entries of the directory, in its order, are kept by the rules above.
  std::vector<bool> vouched;

  bool operator==(const IntentHead&) const = default;

  [[nodiscard]] std::array<std::byte, kSize> serialize() const;
  // Nothing when these bytes are no head, or one that makes no sense.
  [[nodiscard]] static std::optional<IntentHead> parse(std::span<const std::byte, kSize> bytes);
};

class WriteIntent {
 public:
  static constexpr uint32_t kSector = 512;

  // Where a map for a directory has room.
  struct Place {
    uint64_t directory_offset = 0;
    uint64_t offset = 0;   // of the bits
    uint32_t sectors = 0;  // of bits
  };
  [[nodiscard]] static std::optional<Place> place(uint64_t directory_offset,
                                                  uint64_t directory_length, uint64_t cluster_size);

  explicit WriteIntent(Image& image) : image_(image) {}

  // There is a map.
  [[nodiscard]] bool active() const { return active_; }
  [[nodiscard]] const IntentHead& head() const { return head_; }

  // Reads the map at a place. False: there is none to be believed.
  [[nodiscard]] io::Task<Result<bool>> load(Place place);
  // Writes a new one there, durably: `all` groups have their bits, or none. Nobody believes what is
  // there meanwhile.
  [[nodiscard]] io::Task<Result<void>> create(Place place, std::vector<bool> vouched, bool all);
  // Changes what is vouched for.
  [[nodiscard]] io::Task<Result<void>> vouch(std::vector<bool> vouched);
  void forget() { active_ = false; }

  // The directory moves: nothing changes between hold() and the guard's end but by the two others.
  [[nodiscard]] io::AsyncMutex::LockAwaiter hold() { return mutex_.lock(); }
  // Writes the map for another directory; with `all`, or when there is none so far, all groups
  // have their bits.
  [[nodiscard]] io::Task<Result<void>> write_copy(Place place, std::vector<bool> vouched, bool all);
  // That is the map from now on.
  void moved();

  // Every group of a range of bytes has its bit, durably.
  [[nodiscard]] bool covers(uint64_t offset, uint64_t length) const {
    const uint64_t last = group(offset + length - 1);
    for (uint64_t at = group(offset); at <= last; ++at) {
      if (!test(map_.ready, at)) {
        return false;
      }
    }
    return true;
  }
  // Says that a range will be asked for by cover(), so that one write does for several.
  void expect(uint64_t offset, uint64_t length);
  // Gives a range its bits, durably. Without a map there is nothing to do.
  [[nodiscard]] io::Task<Result<void>> cover(uint64_t offset, uint64_t length);

  // Marks in a bitmap what the map has.
  void mark_into(block::DirtyBitmap& bitmap) const;

  [[nodiscard]] io::Task<void> begin_round();
  // Whether a group that touches [offset, end) would be dropped by end_round().
  [[nodiscard]] bool drops(uint64_t offset, uint64_t end) const;
  // `stored`: what is dropped is in the stored bits, durably. Else nothing is dropped.
  [[nodiscard]] io::Task<Result<void>> end_round(bool stored);

 private:
  using Bits = std::vector<std::byte>;
  // Bit i is bit i % 8 of byte i / 8; all are of the same length.
  struct Map {
    Bits ready;   // writes rely on these: durable, and staying
    Bits wanted;  // these, and what is asked for
    Bits held;    // durable until the end of a round, and nobody relies on them yet
  };

  [[nodiscard]] static bool test(const Bits& bits, uint64_t index) {
    return (std::to_integer<unsigned>(bits[index / 8]) >> (index % 8) & 1U) != 0;
  }
  static void set(Bits& bits, uint64_t index) {
    bits[index / 8] |= static_cast<std::byte>(1U << (index % 8));
  }
  [[nodiscard]] uint64_t group(uint64_t offset) const {
    return std::min(offset >> head_.group_bits, groups_ - 1);
  }
  [[nodiscard]] Bits all_bits() const;
  [[nodiscard]] IntentHead make_head(Place place, std::vector<bool> vouched) const;
  void start_map(Place place, IntentHead head, Bits bits);
  [[nodiscard]] io::Task<Result<void>> write_bits(bool durable);
  [[nodiscard]] io::Task<Result<void>> write_map(Place place, IntentHead head, Bits bits);

  Image& image_;
  io::AsyncMutex mutex_;
  bool active_ = false;
  Place place_;
  IntentHead head_;
  uint64_t groups_ = 1;
  Map map_;
  Bits on_disk_;                    // what was written last
  bool on_disk_unknown_ = false;    // a write of it failed
  std::optional<Place> new_place_;  // of a copy
  IntentHead new_head_;
  Bits new_bits_;
};

}  // namespace cairn::qcow2
