#include "filters/mirror_top.h"

#include <algorithm>

#include "base/bytes.h"
#include "block/graph.h"

namespace cairn::filters {

const block::DriverInfo kMirrorTopDriver = {.name = "mirror_top",
                                            .kind = block::DriverInfo::Kind::kFilter};
const block::DriverInfo kCommitTopDriver = {.name = "commit_top",
                                            .kind = block::DriverInfo::Kind::kFilter};

void MirrorTop::start(block::BlockCopy& copy, Observer observer) {
  copy_ = &copy;
  observer_ = std::move(observer);
}

// The length is the mirror's to rely on.
block::Permissions MirrorTop::child_permissions(block::ChildRole /*role*/,
                                                block::Permissions parents,
                                                bool /*writable*/) const {
  parents.shared = parents.shared.without(block::PermissionSet::kResize);
  return parents;
}

io::Task<Result<void>> MirrorTop::write(uint64_t offset, io::IoVector data,
                                        block::WriteFlags flags) {
  if (copy_ == nullptr || flags.unchanged) {
    return child().write(offset, std::move(data), flags);
  }
  if (write_both_) {
    return write_to_both(offset, std::move(data), flags);
  }
  const uint64_t length = data.size();
  return and_mark(child().write(offset, std::move(data), flags), offset, length);
}

io::Task<Result<void>> MirrorTop::write_zeroes(uint64_t offset, uint64_t length,
                                               block::ZeroFlags flags) {
  if (copy_ == nullptr) {
    return child().write_zeroes(offset, length, flags);
  }
  if (write_both_) {
    return zero_both(offset, length, flags);
  }
  return and_mark(child().write_zeroes(offset, length, flags), offset, length);
}

// What is read after a discard is for each side to say, so that the copy has to tell.
io::Task<Result<void>> MirrorTop::discard(uint64_t offset, uint64_t length) {
  if (copy_ == nullptr) {
    return child().discard(offset, length);
  }
  return and_mark(child().discard(offset, length), offset, length);
}

io::Task<Result<void>> MirrorTop::and_mark(io::Task<Result<void>> change, uint64_t offset,
                                           uint64_t length) {
  Result<void> done = co_await std::move(change);
  mark(offset, length);
  co_return done;
}

io::RangeLock::LockAwaiter MirrorTop::lock_granules(uint64_t offset, uint64_t length) {
  const uint64_t begin = align_down(offset, copy_->granule());
  const uint64_t end = align_up(offset + length, copy_->granule());
  return copy_->locks().lock_exclusive(begin, end - begin);
}

io::Task<Result<void>> MirrorTop::write_to_both(uint64_t offset, io::IoVector data,
                                                block::WriteFlags flags) {
  block::BlockCopy& copy = *copy_;
  const auto lock = co_await lock_granules(offset, data.size());
  const uint64_t length = data.size();
  io::IoVector same = data;
  Result<void> done = co_await child().write(offset, std::move(data), flags);
  if (!done) {
    mark(offset, length);
    co_return done;
  }
  copy.target_changes(offset, length);
  copy.let_target_through();
  const Result<void> on_target = co_await copy.target().write(offset, std::move(same));
  settle(on_target, offset, length);
  co_return done;
}

io::Task<Result<void>> MirrorTop::zero_both(uint64_t offset, uint64_t length,
                                            block::ZeroFlags flags) {
  block::BlockCopy& copy = *copy_;
  const auto lock = co_await lock_granules(offset, length);
  Result<void> done = co_await child().write_zeroes(offset, length, flags);
  if (!done) {
    mark(offset, length);
    co_return done;
  }
  const block::ZeroFlags on_copy{.may_unmap = flags.may_unmap && copy.options().unmap};
  copy.let_target_through();
  const Result<void> on_target = co_await copy.target().write_zeroes(offset, length, on_copy);
  settle(on_target, offset, length);
  co_return done;
}

// The mirror may have ended meanwhile, with all that is told of it.
void MirrorTop::mark(uint64_t offset, uint64_t length) {
  if (copy_ != nullptr) {
    copy_->mark(offset, length);
    observer_.changed();
  }
}

// Granules of which a part was written stay as they were: alike, or pending.
void MirrorTop::settle(const Result<void>& on_target, uint64_t offset, uint64_t length) {
  if (copy_ == nullptr) {
    return;
  }
  if (!on_target) {
    mark(offset, length);
    observer_.target_failed(on_target.error());
    return;
  }
  const uint64_t before = copy_->pending_bytes();
  copy_->unmark_covered(offset, length);
  observer_.written(before - copy_->pending_bytes());
}

}  // namespace cairn::filters
