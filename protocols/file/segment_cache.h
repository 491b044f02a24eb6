// SegmentCache: remembers the last answer of the file system to "where does data end, where does
// the next begin?", so that a run of status requests costs one pair of lseek() calls.
//
// Invariants
// - What is remembered as data may meanwhile have become a hole: harmless, since data is always a
//   true answer.
// - What is remembered as a hole is one: writes forget it before they start, and it is not learnt
//   while a write is in flight or while other programs may write (the owner sees to the latter).
#pragma once

#include <cstdint>
#include <optional>

namespace cairn::file {

// [begin, end) of a file, in bytes.
struct Segment {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool data = false;
};

class SegmentCache {
 public:
  [[nodiscard]] std::optional<Segment> find(uint64_t offset) const {
    const bool hit = offset >= segment_.begin && offset < segment_.end;
    return hit ? std::optional(segment_) : std::nullopt;
  }

  // `exclusive`: no other program may write to the file.
  void learn(const Segment& segment, bool exclusive) {
    if (segment.data || (exclusive && writes_ == 0)) {
      segment_ = segment;
    }
  }

  void write_begins(uint64_t offset, uint64_t length) {
    ++writes_;
    if (!segment_.data) {
      forget(offset, length);
    }
  }
  void write_ends() { --writes_; }

  // Data that is punched out or cut off.
  void forget(uint64_t offset, uint64_t length) {
    const bool overlaps = offset < segment_.end && segment_.begin < offset + length;
    if (overlaps) {
      segment_ = {};
    }
  }

 private:
  Segment segment_;
  uint64_t writes_ = 0;
};

}  // namespace cairn::file
