#include "formats/qcow2/writeback.h"

#include <cerrno>
#include <functional>
#include <utility>

#include "block/node.h"

namespace cairn::qcow2 {

namespace {

// More freed clusters than this do not wait for the guest's next flush.
constexpr uint64_t kMostQueuedFrees = 64 << 10;

}  // namespace

io::Task<Result<void>> Writeback::flush() {
  // A run that has not begun yet covers everything that this call has to.
  const uint64_t needed = started_ + 1;
  const auto lock = co_await writeout_.lock();
  if (completed_ >= needed) {
    co_return Result<void>{};
  }
  const uint64_t mine = ++started_;
  Result<void> result = co_await run();
  if (result) {
    completed_ = mine;
  }
  co_return result;
}

io::Task<Result<void>> Writeback::flush_all() {
  counts_wanted_ = true;
  co_return co_await flush();
}

io::Task<Result<void>> Writeback::end_postponing() {
  if (!postponed_) {
    co_return Result<void>{};
  }
  std::function<void(Header&)> clear = [](Header& header) {
    header.incompatible_features &= ~kIncompatibleDirty;
  };
  Result<void> cleared = co_await image_.update_header(std::move(clear));
  postponed_ = !cleared;
  co_return cleared;
}

// The header says that counts are missing before an entry is durable that needs them.
io::Task<Result<void>> Writeback::postpone_counts() {
  if (postponed_ || !refcounts_.dirty()) {
    co_return Result<void>{};
  }
  std::function<void(Header&)> set = [](Header& header) {
    header.incompatible_features |= kIncompatibleDirty;
  };
  Result<void> marked = co_await image_.update_header(std::move(set));
  postponed_ = marked.has_value();
  co_return marked;
}

io::Task<Result<void>> Writeback::run() {
  if (auto known = image_.header_known(); !known) {
    co_return known;
  }
  // No suspension until all has been taken: the entries and the clusters they freed belong
  // together.
  std::vector<FreedClusters> freed = reclaim_.take();
  Mapping::Writeout tables;
  Refcounts::Writeout counts;
  Result<void> result = mapping_.take(tables);
  writing_tables_ = !tables.empty();
  if (result) {
    result = co_await write(tables, counts);
  }
  refcounts_.finish(counts, result.has_value());
  mapping_.finish(tables, result.has_value());
  writing_tables_ = false;
  if (result) {
    reclaim_.durable(std::move(freed));
  } else {
    reclaim_.put_back(std::move(freed));
  }
  co_return result;
}

io::Task<Result<void>> Writeback::write(Mapping::Writeout& tables, Refcounts::Writeout& counts) {
  block::Edge& file = image_.file();
  const bool any_tables = !tables.empty();
  const bool counts_due = std::exchange(counts_wanted_, false) || refcounts_.pressed();
  Result<void> result;
  // An image may have become one of version 2, which can not say that counts are missing.
  if (lazy_refcounts_ && image_.header().version >= 3 && !counts_due) {
    result = co_await postpone_counts();
  } else {
    result = co_await refcounts_.write_out(counts);
  }
  if (result) {
    result = co_await image_.flush_data();
  }
  if (result) {
    result = co_await file.flush();
  }
  if (result && !tables.pages.empty()) {
    result = co_await mapping_.write_tables(tables);
  }
  if (result && !tables.l1.empty()) {
    result = co_await file.flush();
    if (result) {
      result = co_await mapping_.write_l1(tables);
    }
  }
  if (result && any_tables) {
    result = co_await file.flush();
  }
  co_return result;
}

bool Writeback::pressed() const {
  return mapping_.pressed() || refcounts_.pressed() || reclaim_.queued() > kMostQueuedFrees;
}

io::Task<Result<void>> Writeback::relieve() {
  if (!pressed()) {
    co_return Result<void>{};
  }
  co_return co_await flush();
}

}  // namespace cairn::qcow2
