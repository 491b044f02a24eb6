#include "jobs/compare.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/sector.h"
#include "io/buffer.h"
#include "io/semaphore.h"
#include "io/task_group.h"
#include "io/zero.h"

namespace cairn::jobs {
namespace {

constexpr uint64_t kPiece = 512u << 10;      // of a buffer
constexpr uint64_t kStoredPiece = 2u << 20;  // that is compared without a buffer
constexpr size_t kAtOnce = 4;                // pieces, each with a buffer for either image at most

// A range of one image that is the same all over.
struct Run {
  uint64_t length = 0;
  bool data = false;
  bool zero = false;
  bool allocated = false;
  bool compressed = false;
  StoredAt stored;         // its beginning, and the rest behind that
  bool scattered = false;  // but it is not
  bool to_the_end = false;

  [[nodiscard]] bool is_stored() const { return stored.node != nullptr && !scattered; }
  [[nodiscard]] bool same_kind(const Run& other) const {
    return data == other.data && zero == other.zero && allocated == other.allocated &&
           compressed == other.compressed &&
           (stored.node != nullptr) == (other.stored.node != nullptr);
  }
};

using Buffers = std::array<io::AlignedBuffer, 2>;

// A range that is read: of both images, or of one where the other has zeroes.
struct ComparedPiece {
  uint64_t offset = 0;
  uint64_t length = 0;
  std::optional<bool> zeroes;      // whether it is the second image that has to be zeroes
  std::array<StoredAt, 2> stored;  // where to compare it beside the images; or nowhere
};

class Comparer {
 public:
  explicit Comparer(CompareOptions options) : options_(std::move(options)) {}

  io::Task<CompareOutcome> run();

 private:
  block::Edge& image(bool second) const { return second ? *options_.second : *options_.first; }
  // What of an image is compared, by offsets from where that begins.
  [[nodiscard]] uint64_t begin(bool second) const { return second ? options_.second_begin : 0; }
  [[nodiscard]] uint64_t length(bool second) const {
    const uint64_t all = image(second).length();
    return all - std::min(all, begin(second));
  }
  io::Task<Result<Run>> status(bool second, uint64_t offset, uint64_t end);
  io::Task<Result<Run>> whole_run(bool second, uint64_t offset, uint64_t end);
  // Each returns false when the comparison is over: outcome_ says why.
  io::Task<bool> compare_common(uint64_t end);
  io::Task<bool> compare_runs(const std::array<Run, 2>& runs, uint64_t offset, uint64_t length);
  io::Task<bool> expect_zero_tail(bool second, uint64_t offset);
  // Begins to read a range, piece after piece; the last ones are still on their way afterwards.
  io::Task<bool> start(ComparedPiece range);
  io::Task<void> look_at(ComparedPiece piece, io::Semaphore::Units place);
  io::Task<bool> is_equal(const ComparedPiece& piece);
  io::Task<bool> is_zero(const ComparedPiece& piece);
  [[nodiscard]] Result<Buffers> take_buffers();
  io::Task<bool> read(bool second, uint64_t offset, std::span<std::byte> bytes);
  bool fail_at(CompareFailure::Step step, bool second, uint64_t offset, const Error& error);
  bool differ_at(Difference::Kind kind, uint64_t offset);
  void complete(uint64_t offset, uint64_t length);

  CompareOptions options_;
  uint64_t total_ = 0;
  uint64_t done_ = 0;                        // everything before is known to be the same
  std::map<uint64_t, uint64_t> done_ahead_;  // ranges behind that which are, too: begin to end
  io::TaskGroup pieces_;
  io::Semaphore places_{kAtOnce};
  std::vector<Buffers> spare_;
  // Of what ended the comparison the first in the image is told, whichever was found first.
  uint64_t ended_at_ = UINT64_MAX;
  CompareOutcome outcome_;
};

io::Task<CompareOutcome> Comparer::run() {
  const uint64_t first = length(false);
  const uint64_t second = options_.first_alone ? std::min(first, length(true)) : length(true);
  total_ = std::max(first, second);
  complete(0, 0);
  bool equal = co_await compare_common(std::min(first, second));
  co_await pieces_.join();
  equal = equal && ended_at_ == UINT64_MAX;
  if (equal && first != second) {
    equal = co_await expect_zero_tail(second > first, std::min(first, second));
    co_await pieces_.join();
  }
  co_return outcome_;
}

io::Task<Result<Run>> Comparer::status(bool second, uint64_t offset, uint64_t end) {
  block::Edge& edge = image(second);
  Result<block::ChainStatus> found =
      co_await edge.chain_status(begin(second) + offset, end - offset);
  if (!found) {
    co_return pass(found);
  }
  const block::BlockStatus& status = found->status;
  co_return Run{.length = status.length,
                .data = status.data,
                .zero = status.zero,
                .allocated = status.allocated,
                .compressed = status.compressed,
                .stored = {.node = status.host, .offset = status.host_offset},
                .to_the_end = offset + status.length == length(second)};
}

// Joins what differs in nothing but its place in the file. Fragmentation is not allocation.
io::Task<Result<Run>> Comparer::whole_run(bool second, uint64_t offset, uint64_t end) {
  Result<Run> run = co_await status(second, offset, end);
  while (run && offset + run->length < end) {
    Result<Run> next = co_await status(second, offset + run->length, end);
    if (!next) {
      co_return next;
    }
    if (!run->same_kind(*next)) {
      break;
    }
    if (next->stored.node != run->stored.node ||
        next->stored.offset != run->stored.offset + run->length) {
      run->scattered = true;
    }
    run->length += next->length;
    run->to_the_end = next->to_the_end;
  }
  co_return run;
}

io::Task<bool> Comparer::compare_common(uint64_t end) {
  uint64_t offset = 0;
  while (offset < end) {
    std::array<Run, 2> runs;
    for (const bool second : {false, true}) {
      Result<Run> run = Run{};
      if (options_.strict) {
        run = co_await whole_run(second, offset, length(second));
      } else {
        run = co_await status(second, offset, length(second));
      }
      if (!run) {
        co_return fail_at(CompareFailure::Step::kStatus, second, offset, run.error());
      }
      runs[second ? 1 : 0] = *run;
    }
    if (options_.strict &&
        (!runs[0].same_kind(runs[1]) || runs[0].to_the_end != runs[1].to_the_end)) {
      co_return differ_at(Difference::Kind::kAllocation, offset);
    }
    const uint64_t length = std::min({runs[0].length, runs[1].length, end - offset});
    const bool equal = co_await compare_runs(runs, offset, length);
    if (!equal) {
      co_return false;
    }
    offset += length;
  }
  co_return true;
}

io::Task<bool> Comparer::compare_runs(const std::array<Run, 2>& runs, uint64_t offset,
                                      uint64_t length) {
  if (runs[0].zero && runs[1].zero) {
    complete(offset, length);
    co_return true;
  }
  ComparedPiece range{.offset = offset, .length = length, .zeroes = {}, .stored = {}};
  if (runs[0].zero != runs[1].zero) {
    range.zeroes = runs[0].zero;
  } else if (options_.stored != nullptr && runs[0].is_stored() && runs[1].is_stored()) {
    range.stored = {runs[0].stored, runs[1].stored};
  }
  co_return co_await start(range);
}

io::Task<bool> Comparer::expect_zero_tail(bool second, uint64_t offset) {
  const uint64_t end = length(second);
  while (offset < end) {
    Result<Run> run = co_await status(second, offset, end);
    if (!run) {
      co_return fail_at(CompareFailure::Step::kStatus, second, offset, run.error());
    }
    if (run->zero) {
      complete(offset, run->length);
    } else {
      const bool equal = co_await start(
          ComparedPiece{.offset = offset, .length = run->length, .zeroes = second, .stored = {}});
      if (!equal) {
        co_return false;
      }
    }
    offset += run->length;
  }
  co_return true;
}

io::Task<bool> Comparer::start(ComparedPiece range) {
  const uint64_t most = range.stored[0].node != nullptr ? kStoredPiece : kPiece;
  while (range.length > 0) {
    auto place = co_await places_.acquire();
    if (ended_at_ != UINT64_MAX) {
      co_return false;
    }
    ComparedPiece piece = range;
    piece.length = std::min(range.length, most);
    range.offset += piece.length;
    range.length -= piece.length;
    for (StoredAt& stored : range.stored) {
      stored.offset += piece.length;
    }
    pieces_.spawn(look_at(piece, std::move(place)));
  }
  co_return true;
}

io::Task<void> Comparer::look_at(ComparedPiece piece, io::Semaphore::Units place) {
  bool good = false;
  if (piece.zeroes) {
    good = co_await is_zero(piece);
  } else {
    good = co_await is_equal(piece);
  }
  if (good) {
    complete(piece.offset, piece.length);
  }
  place.release();
}

io::Task<bool> Comparer::is_equal(const ComparedPiece& piece) {
  uint64_t offset = piece.offset;
  uint64_t end = piece.offset + piece.length;
  if (piece.stored[0].node != nullptr) {
    const std::optional<uint64_t> equal =
        co_await options_.stored->equal_bytes(piece.stored[0], piece.stored[1], piece.length);
    if (equal == piece.length) {
      co_return true;
    }
    if (equal) {
      co_return differ_at(Difference::Kind::kContent, (offset + *equal) / kSector * kSector);
    }
  }
  Result<Buffers> buffers = take_buffers();
  if (!buffers) {
    co_return fail_at(CompareFailure::Step::kRead, false, offset, buffers.error());
  }
  for (uint64_t length = 0; offset < end; offset += length) {
    length = std::min(end - offset, kPiece);
    for (const bool second : {false, true}) {
      const std::span<std::byte> bytes = (*buffers)[second ? 1 : 0].span().first(length);
      const bool readable = co_await read(second, offset, bytes);
      if (!readable) {
        co_return false;
      }
    }
    const std::byte* a = (*buffers)[0].data();
    const std::byte* b = (*buffers)[1].data();
    if (std::memcmp(a, b, length) != 0) {
      const auto byte = static_cast<uint64_t>(std::mismatch(a, a + length, b).first - a);
      co_return differ_at(Difference::Kind::kContent, (offset + byte) / kSector * kSector);
    }
  }
  spare_.push_back(std::move(*buffers));
  co_return true;
}

io::Task<bool> Comparer::is_zero(const ComparedPiece& piece) {
  Result<Buffers> buffers = take_buffers();
  if (!buffers) {
    co_return fail_at(CompareFailure::Step::kRead, *piece.zeroes, piece.offset, buffers.error());
  }
  const std::span<std::byte> bytes = (*buffers)[0].span().first(piece.length);
  const bool readable = co_await read(*piece.zeroes, piece.offset, bytes);
  if (!readable) {
    co_return false;
  }
  if (!io::is_zero(bytes)) {
    const auto found = std::ranges::find_if(bytes, [](std::byte b) { return b != std::byte{0}; });
    const auto byte = static_cast<uint64_t>(found - bytes.begin());
    co_return differ_at(Difference::Kind::kContent, (piece.offset + byte) / kSector * kSector);
  }
  spare_.push_back(std::move(*buffers));
  co_return true;
}

Result<Buffers> Comparer::take_buffers() {
  Buffers buffers;
  if (!spare_.empty()) {
    buffers = std::move(spare_.back());
    spare_.pop_back();
    return buffers;
  }
  for (io::AlignedBuffer& buffer : buffers) {
    Result<io::AlignedBuffer> allocated = io::AlignedBuffer::allocate(kPiece);
    if (!allocated) {
      return pass(allocated);
    }
    buffer = std::move(*allocated);
  }
  return buffers;
}

io::Task<bool> Comparer::read(bool second, uint64_t offset, std::span<std::byte> bytes) {
  Result<void> done =
      co_await image(second).read(begin(second) + offset, bytes.data(), bytes.size());
  co_return done ? true : fail_at(CompareFailure::Step::kRead, second, offset, done.error());
}

bool Comparer::fail_at(CompareFailure::Step step, bool second, uint64_t offset,
                       const Error& error) {
  if (offset < ended_at_) {
    ended_at_ = offset;
    outcome_ = {.failure = CompareFailure{.step = step, .second_image = second, .offset = offset},
                .error = error.code()};
  }
  return false;
}

bool Comparer::differ_at(Difference::Kind kind, uint64_t offset) {
  if (offset < ended_at_) {
    ended_at_ = offset;
    outcome_ = {.difference = Difference{.kind = kind, .offset = offset}};
  }
  return false;
}

// Pieces come to their end in any order; progress is what is done from the beginning.
void Comparer::complete(uint64_t offset, uint64_t length) {
  done_ahead_.emplace(offset, offset + length);
  while (!done_ahead_.empty() && done_ahead_.begin()->first == done_) {
    done_ = done_ahead_.begin()->second;
    done_ahead_.erase(done_ahead_.begin());
  }
  if (options_.progress) {
    options_.progress(done_, total_);
  }
}

}  // namespace

io::Task<CompareOutcome> compare_images(CompareOptions options) {
  Comparer comparer(std::move(options));
  co_return co_await comparer.run();
}

}  // namespace cairn::jobs
