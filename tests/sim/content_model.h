// ContentModel: what every byte of a disk may hold, now and after a power cut.
//
// The model is told when changes, reads and flushes start and end, and keeps, for every range of
// bytes, all values that its history admits:
// - Of changes that overlap in time either may be the later one.
// - A change that failed may have happened or not, for every byte on its own.
// - A read may see what was there at any moment while it ran. What it saw when nothing else went on
//   is settled from then on.
// - After a power cut a byte holds the newest value that is known to be durable, or that of any
//   change since, acknowledged or not. A flush makes durable what was acknowledged before it
//   started, FUA the change itself.
// - Never anything else; above all not the data of another range.
//
// Time is a count of events. Ranges beyond the current length keep their state: they come back when
// a power cut undoes a resize.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tests/support/pattern.h"

namespace cairn::testing {

class ContentModel {
 public:
  // `backing`, when given, must be settled and outlive the model: where a disk without content of
  // its own gets it from. All content starts as durable.
  explicit ContentModel(uint64_t length, const ContentModel* backing = nullptr);

  [[nodiscard]] uint64_t length() const { return length_; }

  // What a change may leave in its range.
  struct Values {
    std::optional<WriteNumber> number = {};
    bool backing = false;
    // The change may leave everything as it is: a discard.
    bool advice = false;
  };

  using Handle = uint64_t;
  Handle begin_change(uint64_t offset, uint64_t length, Values values);
  void end_change(Handle handle, bool succeeded, bool durable = false);

  Handle begin_read();
  // Says what is wrong with the `data` that was read, if anything.
  [[nodiscard]] std::optional<std::string> end_read(Handle handle, uint64_t offset,
                                                    std::span<const std::byte> data);
  // A read that failed.
  void drop_read(Handle handle);

  Handle begin_flush() { return ++now_; }
  void end_flush(Handle handle);

  // Shrinking drops what is beyond, growing adds what reads as `added`. Resizes run alone.
  void begin_resize(uint64_t length, Values added);
  // A resize that failed may have changed the length all the same.
  void end_resize(bool succeeded, bool changed);
  void end_resize(bool succeeded) { end_resize(succeeded, succeeded); }

  // A second disk that holds what this one did at some moment since the read began, and durably so.
  // No resize is on.
  [[nodiscard]] ContentModel copy(Handle read);
  // The whole disk, its length included, becomes what `state` holds. Runs alone, as a resize does,
  // and is durable when it succeeds.
  void begin_replace(const ContentModel& state);
  void end_replace(bool succeeded, bool changed);

  // This disk is what `overlay` has as its backing disk, and gets all that the overlay holds; it
  // grows to the overlay's length when it is shorter. Runs alone, and is durable when it succeeds.
  void begin_adopt(const ContentModel& overlay);
  // `length`: of the disk now, in bytes.
  void end_adopt(bool succeeded, uint64_t length);

  // Everything stops where it is: no handle is good any more, and the values above are what the
  // disk may hold now.
  void power_cut();
  // After a power cut: the length that is found and whether it is possible.
  [[nodiscard]] bool settle_length(uint64_t length);
  // `data` is what the disk holds durably, found with nothing in flight; says what is wrong with
  // it.
  [[nodiscard]] std::optional<std::string> settle(uint64_t offset, std::span<const std::byte> data);

  // Fills `out` with the content, which has to be settled there.
  void expected(uint64_t offset, std::span<std::byte> out) const;

 private:
  using Tick = uint64_t;
  static constexpr Tick kNever = UINT64_MAX;

  // A value that a range may hold.
  struct Entry {
    WriteNumber number = kZeroes;
    Handle change = 0;
    Tick start = 0;
    Tick end = 0;               // kNever: in flight
    Tick superseded = kNever;   // readers that start later do not see it
    bool durably_gone = false;  // nor does a power cut bring it back
  };
  struct Segment {
    std::vector<Entry> entries;
    Tick last_change = 0;
  };
  struct Change {
    uint64_t start;
    uint64_t end;
    Tick begun;
    bool advice;
  };
  struct LengthEntry {
    uint64_t length;
    Tick superseded;
  };
  using Segments = std::map<uint64_t, Segment>;

  // Makes segment borders at both ends; the segments in between.
  std::pair<Segments::iterator, Segments::iterator> cut(uint64_t start, uint64_t end);
  void split(uint64_t at);
  void extend(uint64_t end);
  void add_entries(uint64_t start, uint64_t end, WriteNumber number, const Entry& prototype);
  void add_backing(uint64_t start, uint64_t end, const Entry& prototype);
  void add_from(const ContentModel& other, uint64_t start, uint64_t end, const Entry& prototype);
  void collect(Segment& segment) const;
  [[nodiscard]] std::string complain(uint64_t offset, std::span<const std::byte> data,
                                     const Segment& segment, Tick since) const;

  // Walks `data` segment by segment, splitting where the value changes, and calls
  // found(segment, number) for each run; the complaint when a byte is none of the values that are
  // admissible for a reader since `since` (or after a power cut, when `crashed`).
  template <typename Found>
  std::optional<std::string> match(uint64_t offset, std::span<const std::byte> data, Tick since,
                                   bool crashed, Found found);

  uint64_t length_;
  const ContentModel* backing_;
  uint64_t end_ = 0;  // of the last segment
  Segments segments_;
  std::map<Handle, Change> changes_;
  std::map<Handle, Tick> reads_;
  std::vector<LengthEntry> lengths_;  // but for the current one
  std::optional<uint64_t> resizing_to_;
  Handle resize_change_ = 0;
  Handle beyond_change_ = 0;
  Tick now_ = 1;
};

}  // namespace cairn::testing
