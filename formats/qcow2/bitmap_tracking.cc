// BitmapKeeper: the map of what is about to change (write_intent.h): when it is kept, whom it
// vouches for, and refreshing what is stored so that little of it is needed.
//
// What is stored of a bitmap in use, together with the map, has all that is marked in memory:
//   - a write marks in memory, is told to the map, and only then changes anything
//   - a round drops a group when all that was marked in it has been stored: whoever had been let in
//     before the round began has marked for the last time by then, and everybody else has told the
//     map anew
//   - a merge tells the map what it is going to mark; clearing, and a failed transaction that marks
//     again, leave the stored bits alone, since no round ends while a drain is on
#include <algorithm>
#include <cerrno>
#include <functional>
#include <utility>

#include "block/dirty_bitmap.h"
#include "block/graph.h"
#include "block/node.h"
#include "block/request_scope.h"
#include "formats/qcow2/bitmap_keeper.h"
#include "io/event.h"

namespace cairn::qcow2 {

using block::DirtyBitmap;

bool BitmapKeeper::usable(std::size_t index) const {
  const DirtyBitmap* mine = bitmap(index);
  return mine != nullptr && !mine->inconsistent();
}

std::vector<bool> BitmapKeeper::vouched(const std::vector<BitmapEntry>& entries) const {
  const block::DirtyBitmaps* all = image_.node().bitmaps();
  std::vector<bool> result;
  result.reserve(entries.size());
  for (const BitmapEntry& entry : entries) {
    const DirtyBitmap* found = all != nullptr ? all->find(entry.name) : nullptr;
    result.push_back(found != nullptr && found->persistent() && !found->inconsistent());
  }
  return result;
}

// All bitmaps that record are in use from now on.
io::Task<Result<void>> BitmapKeeper::before_first_write() {
  const auto lock = co_await mutex_.lock();
  std::vector<std::size_t> indices;
  bool in_use = false;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (usable(i)) {
      in_use = in_use || entries_[i].in_use();
      if (bitmap(i)->recording()) {
        indices.push_back(i);
      }
    }
  }
  Result<void> result = co_await mark(std::move(indices));
  if (result && tracking_ == Tracking::kUndecided) {
    if (in_use) {
      // Recovered, and marked ever since.
      result = co_await start_tracking(false);
    } else {
      tracking_ = Tracking::kOff;
      result = co_await vouch_for_map(false);
    }
  }
  co_return result;
}

// Before any bitmap is marked as in use. A map that was found and believed goes on to be kept; a
// new one has everything, when there may be writes that it was not told of.
io::Task<Result<void>> BitmapKeeper::start_tracking(bool anything_written) {
  if (tracking_ == Tracking::kOn) {
    co_return Result<void>{};
  }
  const auto place =
      WriteIntent::place(directory_offset_, directory_.size(), image_.cluster_size());
  if (!place) {
    tracking_ = Tracking::kOff;
    co_return Result<void>{};
  }
  Result<void> result = co_await image_.may_write(MetadataKind::kBitmapDirectory, directory_offset_,
                                                  directory_.size());
  if (result) {
    std::vector<bool> known = vouched(entries_);
    if (intent_.active()) {
      result = co_await intent_.vouch(std::move(known));
    } else {
      result = co_await intent_.create(*place, std::move(known), anything_written);
    }
  }
  if (result) {
    result = co_await vouch_for_map(true);
  }
  if (!result) {
    intent_.forget();
    co_return pass(result, "Could not note what is about to change: ");
  }
  tracking_ = Tracking::kOn;
  arm(kPeriod);
  co_return result;
}

// A directory needs a map that has bitmaps in use, and room.
bool BitmapKeeper::wants_map(const std::vector<BitmapEntry>& entries, uint64_t length) const {
  return std::ranges::any_of(entries, &BitmapEntry::in_use) &&
         WriteIntent::place(image_.cluster_size(), length, image_.cluster_size()).has_value();
}

// Before a directory with a map takes the place of the one there is: the header vouches for maps,
// which must not make anybody believe an old one.
io::Task<Result<void>> BitmapKeeper::expect_map() {
  Result<void> result;
  if (directory_offset_ != 0) {
    result = co_await start_tracking(true);
  }
  if (result) {
    result = co_await vouch_for_map(true);
  }
  co_return result;
}

io::Task<Result<void>> BitmapKeeper::vouch_for_map(bool on) {
  if (((image_.header().autoclear_features & kAutoclearWriteIntent) != 0) == on) {
    co_return Result<void>{};
  }
  std::function<void(Header&)> change = [on](Header& header) {
    const uint64_t others = header.autoclear_features & ~kAutoclearWriteIntent;
    header.autoclear_features = others | (on ? kAutoclearWriteIntent : 0);
  };
  co_return co_await image_.update_header(std::move(change));
}

void BitmapKeeper::stop_tracking() {
  disarm();
  tracking_ = Tracking::kOff;
  intent_.forget();
}

// Nothing that is in use depends on the map any more. Should the header go on to vouch for it, that
// is harmless.
io::Task<void> BitmapKeeper::end_tracking() {
  if (tracking_ != Tracking::kOn && !intent_.active()) {
    co_return;
  }
  stop_tracking();
  tracking_ = Tracking::kUndecided;
  round_open_ = false;
  image_.expect_no_writes();
  if (!image_.broken()) {
    const Result<void> cleared = co_await vouch_for_map(false);
    static_cast<void>(cleared);
  }
}

io::Task<Result<void>> BitmapKeeper::cover(uint64_t offset, uint64_t length) {
  // When an image takes no more writes, it may be that a map is going to be believed that is not
  // the one in use.
  if (tracking_ == Tracking::kUndecided || (tracking_ == Tracking::kOn && image_.broken())) {
    Result<void> ready = co_await image_.prepare_write();
    if (!ready) {
      co_return ready;
    }
  }
  if (tracking_ != Tracking::kOn) {
    co_return Result<void>{};
  }
  co_return co_await intent_.cover(offset, length);
}

void BitmapKeeper::expect(uint64_t offset, uint64_t length) {
  if (tracking_ == Tracking::kOn) {
    intent_.expect(offset, length);
  }
}

void BitmapKeeper::arm(io::Duration wait) {
  if (tracking_ != Tracking::kOn) {
    return;
  }
  io::Reactor& reactor = io::Reactor::current();
  const io::TimePoint when = reactor.now() + wait;
  if (armed_ && expiry_ <= when) {
    return;
  }
  disarm();
  expiry_ = when;
  armed_ = true;
  reactor.add_timer(*this, when);
}

void BitmapKeeper::disarm() {
  if (std::exchange(armed_, false)) {
    io::Reactor::current().remove_timer(*this);
  }
}

void BitmapKeeper::on_expired() {
  armed_ = false;
  if (tracking_ != Tracking::kOn) {
    return;
  }
  if (work_.running() == 0) {
    work_.spawn(refresh());
  }
  arm(kPeriod);
}

// Half a round, or in a hurry all of it: between its beginning and its end groups that are written
// to again and again are told anew, for nothing.
io::Task<void> BitmapKeeper::refresh() {
  block::Node& node = image_.node();
  if (!round_open_) {
    const bool at_once = hurry_;
    co_await intent_.begin_round();
    round_open_ = true;
    if (!at_once) {
      co_return;
    }
  }
  io::Event gone;
  node.epochs().defer([&gone] { gone.set(); });
  static_cast<void>(co_await gone.wait());
  if (node.graph().draining()) {
    hurry_ = true;
    arm(kSoon);
    co_return;
  }
  const block::RequestScope scope(node);
  const auto lock = co_await mutex_.lock();
  hurry_ = false;
  Result<void> stored;
  if (tracking_ == Tracking::kOn) {
    stored = co_await refresh_marked();
  }
  // What could not be stored, or dropped, stays marked in the map.
  const Result<void> ended = co_await intent_.end_round(stored.has_value());
  static_cast<void>(ended);
  round_open_ = false;
}

io::Task<Result<void>> BitmapKeeper::refresh_marked() {
  if (image_.broken()) {
    co_return fail(EIO, "the image takes no more writes");
  }
  const bool drops = intent_.drops(0, UINT64_MAX);
  std::vector<Storing> storing;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i].in_use() || !usable(i)) {
      continue;
    }
    const DirtyBitmap& mine = *bitmap(i);
    const bool whole = mine.losses() != stored_losses_[mine.name()];
    const bool records = (entries_[i].flags & BitmapEntry::kAuto) != 0;
    if (drops || whole || records != mine.enabled()) {
      Storing& one = storing.emplace_back();
      one.index = i;
      one.whole = whole;
    }
  }
  if (storing.empty()) {
    co_return Result<void>{};
  }
  co_return co_await store_marked(storing, Afterwards::kInUse);
}

}  // namespace cairn::qcow2
