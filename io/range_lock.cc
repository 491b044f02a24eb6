#include "io/range_lock.h"

namespace cairn::io {

bool RangeLock::conflict(const Entry& a, const Entry& b) {
  return a.begin_ < b.end_ && b.begin_ < a.end_ &&
         (a.mode_ == Mode::kExclusive || b.mode_ == Mode::kExclusive) && a.begin_ != a.end_ &&
         b.begin_ != b.end_;
}

bool RangeLock::enter(Entry& entry, Mode mode, uint64_t offset, uint64_t length) {
  assert(entry.owner_ == nullptr);
  entry.owner_ = this;
  entry.mode_ = mode;
  entry.begin_ = offset;
  entry.end_ = length <= UINT64_MAX - offset ? offset + length : UINT64_MAX;
  entry.blockers_ = 0;
  if (mode == Mode::kExclusive || exclusive_count_ != 0) {
    for (const Entry* older = oldest_; older != nullptr; older = older->newer_) {
      entry.blockers_ += conflict(*older, entry) ? 1 : 0;
    }
  }
  exclusive_count_ += mode == Mode::kExclusive ? 1 : 0;
  waiting_count_ += entry.blockers_ != 0 ? 1 : 0;
  entry.older_ = newest_;
  entry.newer_ = nullptr;
  (newest_ != nullptr ? newest_->newer_ : oldest_) = &entry;
  newest_ = &entry;
  return entry.blockers_ == 0;
}

void RangeLock::unlink(Entry& entry) {
  (entry.older_ != nullptr ? entry.older_->newer_ : oldest_) = entry.newer_;
  (entry.newer_ != nullptr ? entry.newer_->older_ : newest_) = entry.older_;
  exclusive_count_ -= entry.mode_ == Mode::kExclusive ? 1 : 0;
  entry.owner_ = nullptr;
}

void RangeLock::leave(Entry& entry) {
  Entry* newer = entry.newer_;
  unlink(entry);
  if (waiting_count_ != 0) {
    wake_those_behind(entry, newer);
  }
}

void RangeLock::wake_those_behind(const Entry& left, Entry* newer) {
  for (; newer != nullptr; newer = newer->newer_) {
    // An entry without blockers holds its range and so does not conflict with this one.
    if (newer->blockers_ == 0 || !conflict(left, *newer)) {
      continue;
    }
    --newer->blockers_;
    if (newer->blockers_ == 0) {
      --waiting_count_;
      newer->waiter_->wake();
    }
  }
}

void RangeLock::move(Entry& from, Entry& to) {
  assert(from.owner_ == this && from.blockers_ == 0 && to.owner_ == nullptr);
  to.owner_ = this;
  to.mode_ = from.mode_;
  to.begin_ = from.begin_;
  to.end_ = from.end_;
  to.blockers_ = 0;
  to.older_ = from.older_;
  to.newer_ = from.newer_;
  (to.older_ != nullptr ? to.older_->newer_ : oldest_) = &to;
  (to.newer_ != nullptr ? to.newer_->older_ : newest_) = &to;
  from.owner_ = nullptr;
}

std::optional<RangeLock::Guard> RangeLock::try_lock(Mode mode, uint64_t offset, uint64_t length) {
  std::optional<Guard> guard(std::in_place);
  if (!enter(guard->entry_, mode, offset, length)) {
    // It is the newest, so nobody has counted it as a blocker.
    unlink(guard->entry_);
    --waiting_count_;
    guard.reset();
  }
  return guard;
}

}  // namespace cairn::io
