// The operations of a history, and what each of them tells the model.
#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "base/bytes.h"
#include "tests/sim/history.h"

namespace cairn::testing {
namespace {

// A buffer in pieces, at odd addresses when the seed says so.
class Memory {
 public:
  Memory(Random& random, uint64_t length) : skip_(random.chance(70) ? 0 : random.below(64)) {
    bytes_.resize(length + skip_);
    uint64_t done = 0;
    while (done < length) {
      const uint64_t piece = random.chance(80) ? length - done : random.between(1, length - done);
      pieces_.push_back({bytes_.data() + skip_ + done, piece});
      done += piece;
    }
  }
  [[nodiscard]] std::span<std::byte> span() { return std::span(bytes_).subspan(skip_); }
  [[nodiscard]] io::IoVector vector() {
    io::IoVector vector;
    for (const auto& [base, length] : pieces_) {
      vector.append(base, length);
    }
    return vector;
  }

 private:
  uint64_t skip_;
  std::vector<std::byte> bytes_;
  std::vector<std::pair<std::byte*, uint64_t>> pieces_;
};

}  // namespace

History::Range History::draw_range() {
  const uint64_t unit = plan_.format == Plan::Format::kRaw ? 4096 : plan_.shape.cluster_size();
  const uint64_t clusters = div_round_up(limit_, unit);
  // Half of all operations meet in few clusters.
  const uint64_t cluster =
      random_.below(random_.chance(50) ? std::min<uint64_t>(clusters, 4) : clusters);
  uint64_t offset = cluster * unit;
  uint64_t length = unit;
  const uint64_t shape = random_.below(10);
  if (plan_.shape.extended_l2 && random_.chance(50)) {  // whole subclusters
    offset += unit / 32 * random_.below(32);
    length = unit / 32 * random_.between(1, random_.chance(20) ? 64 : 8);
  } else if (shape < 4) {
    length = unit * (unit >= 65536 ? 1 : random_.between(1, 4));
    if (unit <= 1024 && random_.chance(10)) {
      length = unit * random_.between(16, 200);
    }
  } else if (shape < 7) {
    offset += align_down(random_.below(unit), 512);
    length = 512 * random_.between(1, std::min<uint64_t>(2 * unit / 512, 128));
  } else {
    offset += random_.below(unit);
    length = random_.between(1, std::min<uint64_t>(2 * unit, 5000));
  }
  offset = std::min(offset, limit_ - 1);
  return {offset, std::min(length, limit_ - offset)};
}

// Whole clusters, but for the end of the disk.
History::Range History::draw_clusters() {
  const uint64_t size = plan_.shape.cluster_size();
  const Range range = draw_range();
  const uint64_t begin = align_down(range.offset, size);
  const uint64_t end = std::min(align_up(range.offset + range.length, size), limit_);
  return {begin, end - begin};
}

Operation History::draw_operation() {
  ++result_.operations;
  const Plan::Weights& w = plan_.weights;
  const unsigned weights[] = {w.read,   w.write,      w.zero,     w.discard,   w.flush,  w.status,
                              w.resize, w.compressed, w.snapshot, w.amendment, w.bitmap, w.alone};
  return static_cast<Operation>(random_.weighted(weights));
}

void History::start_operation(Operation operation, io::TaskGroup& group) {
  if (limit_ == 0 && operation <= Operation::kCompressed && operation != Operation::kResize) {
    return;
  }
  switch (operation) {
    case Operation::kRead:
      group.spawn(do_read(draw_range()));
      break;
    case Operation::kWrite: {
      const WriteNumber number = random_.chance(6) ? kZeroes : next_number_++;
      group.spawn(do_write(draw_range(), number, random_.chance(15)));
      break;
    }
    case Operation::kZero:
      group.spawn(do_zero(draw_range(), {.fua = random_.chance(10),
                                         .may_unmap = random_.chance(60),
                                         .no_fallback = random_.chance(5)}));
      break;
    case Operation::kDiscard:
      group.spawn(do_discard(draw_range()));
      break;
    case Operation::kFlush:
      group.spawn(do_flush());
      break;
    case Operation::kStatus:
      group.spawn(do_status(draw_range()));
      break;
    case Operation::kCompressed:
      if (plan_.format == Plan::Format::kQcow2) {
        group.spawn(do_compressed_write(draw_clusters(), next_number_++));
      }
      break;
    case Operation::kSnapshot:
      start_snapshot(group);
      break;
    case Operation::kResize:
      start_resize(group);
      break;
    case Operation::kAmendment:
      start_amendment(group);
      break;
    case Operation::kBitmap:
      start_bitmap(group);
      break;
    case Operation::kAlone:
      break;  // not while others run
  }
}

void History::start_resize(io::TaskGroup& group) {
  if (resizing_) {
    return;
  }
  const uint64_t most = plan_.shape.cluster_bits >= 16 && plan_.format == Plan::Format::kQcow2
                            ? plan_.size + 4 * plan_.shape.cluster_size()
                            : 3 * plan_.size;
  const uint64_t grain = plan_.format == Plan::Format::kRaw
                             ? std::max(512U, plan_.traits.limits.request_alignment)
                             : 512;
  group.spawn(do_resize(align_up(512 * random_.between(1, most / 512), grain)));
}

void History::ended(std::string_view what, Range range, const Result<void>& result) {
  world_.note(what, range.offset, range.length);
  if (result) {
    return;
  }
  world_.note(result.error().message());
  failed_ = true;
  if (!troubled()) {
    find(fmt::format("{} of {} bytes at {} failed without cause: {}", what, range.length,
                     range.offset, result.error().message()));
  }
}

io::Task<void> History::do_read(Range range) {
  Memory memory(random_, range.length);
  const ContentModel::Handle handle = model_->begin_read();
  const Result<void> result = co_await root_->read(range.offset, memory.vector());
  ended("read", range, result);
  if (!world_.powered()) {
    co_return;
  }
  if (!result) {
    model_->drop_read(handle);
    co_return;
  }
  if (const auto wrong = model_->end_read(handle, range.offset, memory.span())) {
    find(fmt::format("read of {} bytes at {}: {}", range.length, range.offset, *wrong));
  }
}

io::Task<void> History::do_write(Range range, WriteNumber number, bool fua) {
  Memory memory(random_, range.length);
  fill_pattern(number, range.offset, memory.span());
  world_.note("start of write", number, fua ? 1 : 0);
  const auto handle = model_->begin_change(range.offset, range.length, {.number = number});
  const uint64_t restarts = restarts_;
  const Result<void> result =
      co_await root_->write(range.offset, memory.vector(), block::WriteFlags{.fua = fua});
  ended("write", range, result);
  mark_bitmaps(range, number, result.has_value(), fua ? restarts : restarts_);
  if (world_.powered()) {
    model_->end_change(handle, result.has_value(), fua && result.has_value());
  }
}

// Patterns do not compress: each cluster gets one in its first part alone.
io::Task<void> History::do_compressed_write(Range range, WriteNumber number) {
  Memory memory(random_, range.length);
  world_.note("start of compressed write", range.offset, range.length);
  const uint64_t size = plan_.shape.cluster_size();
  const uint64_t share = random_.between(1, size);
  std::vector<ContentModel::Handle> handles;
  for (uint64_t done = 0; done < range.length; done += size) {
    const auto cluster = memory.span().subspan(done, std::min(size, range.length - done));
    const uint64_t offset = range.offset + done;
    const uint64_t filled = std::min<uint64_t>(share, cluster.size());
    fill_pattern(number, offset, cluster.first(filled));
    std::ranges::fill(cluster.subspan(filled), std::byte{0});
    handles.push_back(model_->begin_change(offset, filled, {.number = number}));
    handles.push_back(
        model_->begin_change(offset + filled, cluster.size() - filled, {.number = kZeroes}));
  }
  const Result<void> result =
      co_await root_->write(range.offset, memory.vector(), block::WriteFlags{.compressed = true});
  if (!result &&
      (result.error().message().contains("can not overwrite") || result.error().code() == EINVAL)) {
    // There is data already, or a resize has moved the end away from the request's.
    world_.note("compressed write refused", range.offset, range.length);
  } else {
    ended("compressed write", range, result);
  }
  mark_bitmaps(range, number, result.has_value(), restarts_);
  for (const ContentModel::Handle handle : handles) {
    if (world_.powered()) {
      model_->end_change(handle, result.has_value());
    }
  }
}

io::Task<void> History::do_zero(Range range, block::ZeroFlags flags) {
  world_.note("start of zero", range.offset, range.length);
  const auto handle = model_->begin_change(range.offset, range.length, {.number = kZeroes});
  const uint64_t restarts = restarts_;
  const Result<void> result = co_await root_->write_zeroes(range.offset, range.length, flags);
  if (!result && flags.no_fallback && result.error().code() == ENOTSUP) {
    world_.note("zero refused", range.offset, range.length);
  } else {
    ended("zero", range, result);
  }
  mark_bitmaps(range, kZeroes, result.has_value(), flags.fua ? restarts : restarts_);
  if (world_.powered()) {
    model_->end_change(handle, result.has_value(), flags.fua && result.has_value());
  }
}

io::Task<void> History::do_discard(Range range) {
  world_.note("start of discard", range.offset, range.length);
  const auto handle = model_->begin_change(
      range.offset, range.length, {.number = kZeroes, .backing = !below_.empty(), .advice = true});
  const Result<void> result = co_await root_->discard(range.offset, range.length);
  ended("discard", range, result);
  if (plan_.discard_unmap) {
    mark_bitmaps(range, kZeroes, result.has_value(), restarts_);
  }
  if (world_.powered()) {
    model_->end_change(handle, result.has_value());
  }
}

io::Task<void> History::do_flush() {
  const ContentModel::Handle handle = model_->begin_flush();
  const Result<void> result = co_await root_->flush();
  ended("flush", {}, result);
  if (world_.powered() && result) {
    model_->end_flush(handle);
  }
}

// What status calls zeroes must be something that a read could have seen.
io::Task<void> History::do_status(Range range) {
  const uint64_t asked_end = range.offset + range.length;
  for (;;) {
    // A resize may have come in between two questions.
    const uint64_t end = std::min(asked_end, limit_);
    if (range.offset >= end || !world_.powered()) {
      co_return;
    }
    const ContentModel::Handle handle = model_->begin_read();
    const Result<block::ChainStatus> status =
        co_await root_->chain_status(range.offset, end - range.offset);
    ended("status", range, status ? Result<void>() : std::unexpected(status.error()));
    if (!world_.powered()) {
      co_return;
    }
    if (!status) {
      model_->drop_read(handle);
      co_return;
    }
    const uint64_t length = status->status.length;
    if (length == 0 || length > end - range.offset) {
      find(fmt::format("status at {} says {} bytes of {}", range.offset, length,
                       end - range.offset));
      co_return;
    }
    if (status->status.zero) {
      const std::vector<std::byte> zeroes(length);
      if (const auto wrong = model_->end_read(handle, range.offset, zeroes)) {
        find(fmt::format("status says zeroes: {}", *wrong));
      }
    } else {
      model_->drop_read(handle);
    }
    range.offset += length;
  }
}

io::Task<void> History::do_resize(uint64_t length) {
  resizing_ = true;
  const uint64_t old_length = model_->length();
  limit_ = std::min(limit_, length);
  const block::ResizeOptions options{.zero_new_space = random_.chance(50)};
  world_.note("start of resize", length);
  model_->begin_resize(length,
                       {.number = kZeroes, .backing = !below_.empty() && !options.zero_new_space});
  const Result<void> result = co_await root_->resize(length, options);
  resizing_ = false;
  const bool refused =
      !result && (result.error().code() == ENOTSUP ||
                  result.error().message().contains("is inconsistent and cannot be used"));
  if (!refused) {
    ended("resize", {old_length, length}, result);
  }
  if (world_.powered()) {
    const bool changed = result.has_value() || root_->length() == length;
    if (changed) {
      resize_bitmaps(length);
    }
    model_->end_resize(result.has_value(), changed);
    limit_ = changed ? length : std::min(old_length, length);
  }
}

}  // namespace cairn::testing
