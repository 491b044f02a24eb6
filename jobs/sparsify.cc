#include "jobs/sparsify.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "block/driver.h"
#include "io/buffer.h"
#include "io/mutex.h"
#include "io/task_group.h"
#include "jobs/zero_runs.h"

namespace cairn::jobs {
namespace {

constexpr uint64_t kPieceSize = 1u << 20;
// File systems give space back in blocks, mostly of this size.
constexpr uint64_t kBlock = 4096;

// The units that can be given up, a power of two.
uint64_t unit_of(const block::Node& node) {
  const block::Limits& limits = node.limits();
  return std::bit_ceil(std::max<uint64_t>(
      {kBlock, node.driver().cluster_size(), limits.zero_alignment, limits.discard_alignment}));
}

// A part of the image, no longer than a buffer when it has to be read.
struct Stretch {
  uint64_t offset = 0;
  uint64_t length = 0;  // 0: there is nothing more
  bool zero = false;    // it is known to read as zeroes, and may have space nevertheless
  bool data = false;
};

// One run of sparsify_image(). Lives in its coroutine frame.
class Sparsifier {
 public:
  explicit Sparsifier(const SparsifyOptions& options)
      : options_(options),
        image_(*options.image),
        unit_(unit_of(image_.node())),
        piece_size_(std::max(kPieceSize, unit_)),
        rules_{.shortest = kBlock, .alignment = unit_, .image_length = image_.length()} {}

  io::Task<Result<SparsifyOutcome>> run();

 private:
  io::Task<void> work();
  io::Task<Result<void>> work_until_done(io::AlignedBuffer& buffer);
  io::Task<Result<Stretch>> next();
  io::Task<Result<void>> refresh();
  io::Task<Result<void>> look_for_zeroes(Stretch stretch, io::AlignedBuffer& buffer,
                                         std::vector<DataRun>& runs);
  io::Task<Result<void>> give_up(uint64_t offset, uint64_t length, bool counts);

  const SparsifyOptions& options_;
  block::Edge& image_;
  const uint64_t unit_;
  const uint64_t piece_size_;
  const ZeroRunRules rules_;

  io::AsyncMutex cursor_lock_;  // guards what follows, over refresh()
  uint64_t position_ = 0;
  Stretch run_;  // from the cursor on

  uint64_t done_ = 0;
  SparsifyOutcome outcome_;
  Result<void> result_;
};

io::Task<Result<SparsifyOutcome>> Sparsifier::run() {
  io::TaskGroup workers;
  for (unsigned i = 0; i < std::max(options_.workers, 1u); ++i) {
    workers.spawn(work());
  }
  co_await workers.join();
  if (!result_) {
    co_return pass(result_);
  }
  co_return outcome_;
}

io::Task<void> Sparsifier::work() {
  Result<io::AlignedBuffer> buffer = io::AlignedBuffer::allocate(piece_size_);
  Result<void> result;
  if (buffer) {
    result = co_await work_until_done(*buffer);
  } else {
    result = pass(buffer);
  }
  if (!result && result_) {
    result_ = std::move(result);
  }
}

io::Task<Result<void>> Sparsifier::work_until_done(io::AlignedBuffer& buffer) {
  std::vector<DataRun> runs;
  while (result_) {
    if (options_.cancel.cancelled()) {
      co_return fail_errno(ECANCELED, "It was interrupted");
    }
    const Result<Stretch> stretch = co_await next();
    if (!stretch) {
      co_return std::unexpected(stretch.error());
    }
    if (stretch->length == 0) {
      break;
    }
    Result<void> result;
    if (stretch->zero) {
      // What a file knows to be zeroes may be a hole, or space that was reserved.
      result = co_await give_up(stretch->offset, stretch->length,
                                image_.node().driver().cluster_size() != 0);
    } else if (stretch->data) {
      result = co_await look_for_zeroes(*stretch, buffer, runs);
    }
    if (!result) {
      co_return result;
    }
    done_ += stretch->length;
    if (options_.progress) {
      options_.progress(done_, image_.length());
    }
  }
  co_return Result<void>();
}

io::Task<Result<Stretch>> Sparsifier::next() {
  const auto guard = co_await cursor_lock_.lock();
  if (position_ < image_.length() && run_.length == 0) {
    Result<void> refreshed = co_await refresh();
    if (!refreshed) {
      co_return pass(refreshed);
    }
  }
  Stretch stretch = run_;
  if (stretch.data) {
    // Pieces end at multiples of their size, which units divide.
    stretch.length = std::min(stretch.length, piece_size_ - position_ % piece_size_);
  }
  position_ += stretch.length;
  run_.offset = position_;
  run_.length -= stretch.length;
  co_return stretch;
}

// Asks what the image stores at the cursor.
io::Task<Result<void>> Sparsifier::refresh() {
  const uint64_t left = image_.length() - position_;
  const Result<block::BlockStatus> status = co_await image_.status(position_, left);
  if (!status) {
    co_return fail(status.error().code(), "error while reading block status at offset {}: {}",
                   position_, std::strerror(status.error().code()));
  }
  run_ = {.offset = position_, .length = status->length};
  if (status->allocated && status->zero) {
    run_.zero = status->host != nullptr;
  } else if (status->allocated) {
    run_.data = true;
  }
  // A unit that is data in part is looked at as a whole.
  const uint64_t end = position_ + run_.length;
  if (end != image_.length() && !is_aligned(end, unit_)) {
    const uint64_t whole = align_down(end, unit_);
    if (!run_.data && whole > position_) {
      run_.length = whole - position_;
    } else {
      run_.zero = false;
      run_.data = true;
      run_.length = std::min(align_up(end, unit_), image_.length()) - position_;
    }
  }
  co_return Result<void>();
}

io::Task<Result<void>> Sparsifier::look_for_zeroes(Stretch stretch, io::AlignedBuffer& buffer,
                                                   std::vector<DataRun>& runs) {
  const std::span<std::byte> bytes = buffer.span().first(stretch.length);
  Result<void> read = co_await image_.read(stretch.offset, bytes.data(), bytes.size());
  if (!read) {
    co_return fail(read.error().code(), "error while reading at byte {}: {}", stretch.offset,
                   std::strerror(read.error().code()));
  }
  find_zero_runs(bytes, stretch.offset, rules_, runs);
  for (size_t i = 0; i < runs.size(); ++i) {
    const DataRun run = runs[i];
    if (!run.zero) {
      continue;
    }
    Result<void> given_up = co_await give_up(stretch.offset + run.offset, run.length, true);
    if (!given_up) {
      co_return given_up;
    }
  }
  co_return Result<void>();
}

// The range reads as zeroes, and goes on doing so.
io::Task<Result<void>> Sparsifier::give_up(uint64_t offset, uint64_t length, bool counts) {
  const block::ZeroFlags flags{.may_unmap = true, .no_fallback = true, .unchanged = true};
  Result<void> zeroed = co_await image_.write_zeroes(offset, length, flags);
  if (!zeroed && zeroed.error().code() != ENOTSUP) {
    co_return fail(zeroed.error().code(), "error while giving up space at byte {}: {}", offset,
                   std::strerror(zeroed.error().code()));
  }
  if (counts) {
    (zeroed ? outcome_.given_up : outcome_.kept) += length;
  }
  co_return Result<void>();
}

}  // namespace

io::Task<Result<SparsifyOutcome>> sparsify_image(const SparsifyOptions& options) {
  Sparsifier sparsifier(options);
  co_return co_await sparsifier.run();
}

}  // namespace cairn::jobs
