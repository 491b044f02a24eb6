#include "jobs/compare.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "base/sector.h"
#include "io/buffer.h"
#include "io/task_group.h"
#include "io/zero.h"

namespace cairn::jobs {
namespace {

constexpr uint64_t kPiece = 512u << 10;
constexpr size_t kWorkers = 4;  // each with a buffer for either image

// A range of one image that is the same all over.
struct Run {
  uint64_t length = 0;
  bool data = false;
  bool zero = false;
  bool allocated = false;
  bool compressed = false;
  bool host_known = false;
  bool to_the_end = false;

  [[nodiscard]] bool same_kind(const Run& other) const {
    return data == other.data && zero == other.zero && allocated == other.allocated &&
           compressed == other.compressed && host_known == other.host_known;
  }
};

using Buffers = std::array<io::AlignedBuffer, 2>;

// Data of both images that the workers are at.
struct DataRange {
  uint64_t next = 0;  // where the next piece begins
  uint64_t end = 0;
  uint64_t done = 0;  // as far as progress is concerned: in order, whatever the pieces' order
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
  io::Task<bool> compare_data(uint64_t offset, uint64_t length);
  io::Task<void> compare_pieces(DataRange& range, Buffers& buffers);
  io::Task<bool> expect_zeroes(bool second, uint64_t offset, uint64_t length);
  io::Task<bool> expect_zero_tail(bool second, uint64_t offset);
  io::Task<bool> read(bool second, uint64_t offset, std::span<std::byte> bytes);
  bool fail_at(CompareFailure::Step step, bool second, uint64_t offset, const Error& error);
  bool differ_at(Difference::Kind kind, uint64_t offset);
  void advance(uint64_t offset);

  CompareOptions options_;
  uint64_t total_ = 0;
  std::array<Buffers, kWorkers> buffers_;
  // Of what ended the comparison the first in the image is told, whichever was found first.
  uint64_t ended_at_ = UINT64_MAX;
  CompareOutcome outcome_;
};

io::Task<CompareOutcome> Comparer::run() {
  for (Buffers& pair : buffers_) {
    for (io::AlignedBuffer& buffer : pair) {
      Result<io::AlignedBuffer> allocated = io::AlignedBuffer::allocate(kPiece);
      if (!allocated) {
        fail_at(CompareFailure::Step::kRead, false, 0, allocated.error());
        co_return outcome_;
      }
      buffer = std::move(*allocated);
    }
  }
  const uint64_t first = length(false);
  const uint64_t second = options_.first_alone ? std::min(first, length(true)) : length(true);
  total_ = std::max(first, second);
  advance(0);
  bool equal = co_await compare_common(std::min(first, second));
  if (equal && first != second) {
    equal = co_await expect_zero_tail(second > first, std::min(first, second));
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
                .host_known = status.host != nullptr,
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
    run->length += next->length;
    run->to_the_end = next->to_the_end;
  }
  co_return run;
}

io::Task<bool> Comparer::compare_common(uint64_t end) {
  uint64_t offset = 0;
  while (offset < end) {
    Run runs[2];
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
    bool equal = true;
    if (!runs[0].zero && !runs[1].zero) {
      equal = co_await compare_data(offset, length);
    } else if (runs[0].zero != runs[1].zero) {
      equal = co_await expect_zeroes(runs[0].zero, offset, length);
    }
    if (!equal) {
      co_return false;
    }
    offset += length;
    advance(offset);
  }
  co_return true;
}

// Several pieces at a time, so that reading one goes on beside comparing another.
io::Task<bool> Comparer::compare_data(uint64_t offset, uint64_t length) {
  DataRange range{.next = offset, .end = offset + length, .done = offset};
  io::TaskGroup workers;
  for (Buffers& buffers : buffers_) {
    if (range.next < range.end) {
      workers.spawn(compare_pieces(range, buffers));
    }
  }
  co_await workers.join();
  co_return ended_at_ == UINT64_MAX;
}

io::Task<void> Comparer::compare_pieces(DataRange& range, Buffers& buffers) {
  while (range.next < range.end && ended_at_ == UINT64_MAX) {
    const uint64_t offset = range.next;
    const uint64_t length = std::min(range.end - offset, kPiece);
    range.next += length;
    for (const bool second : {false, true}) {
      const std::span<std::byte> bytes = buffers[second ? 1 : 0].span().first(length);
      const bool readable = co_await read(second, offset, bytes);
      if (!readable) {
        co_return;
      }
    }
    const std::byte* a = buffers[0].data();
    const std::byte* b = buffers[1].data();
    if (std::memcmp(a, b, length) != 0) {
      const auto byte = static_cast<uint64_t>(std::mismatch(a, a + length, b).first - a);
      differ_at(Difference::Kind::kContent, (offset + byte) / kSector * kSector);
      co_return;
    }
    range.done += length;
    advance(range.done);
  }
}

io::Task<bool> Comparer::expect_zeroes(bool second, uint64_t offset, uint64_t length) {
  while (length > 0) {
    const uint64_t piece = std::min(length, kPiece);
    const std::span<std::byte> bytes = buffers_[0][0].span().first(piece);
    const bool readable = co_await read(second, offset, bytes);
    if (!readable) {
      co_return false;
    }
    if (!io::is_zero(bytes)) {
      const auto found = std::ranges::find_if(bytes, [](std::byte b) { return b != std::byte{0}; });
      const auto byte = static_cast<uint64_t>(found - bytes.begin());
      co_return differ_at(Difference::Kind::kContent, (offset + byte) / kSector * kSector);
    }
    offset += piece;
    length -= piece;
    advance(offset);
  }
  co_return true;
}

io::Task<bool> Comparer::expect_zero_tail(bool second, uint64_t offset) {
  const uint64_t end = length(second);
  while (offset < end) {
    Result<Run> run = co_await status(second, offset, end);
    if (!run) {
      co_return fail_at(CompareFailure::Step::kStatus, second, offset, run.error());
    }
    if (!run->zero) {
      const bool zeroes = co_await expect_zeroes(second, offset, run->length);
      if (!zeroes) {
        co_return false;
      }
    }
    offset += run->length;
    advance(offset);
  }
  co_return true;
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

void Comparer::advance(uint64_t offset) {
  if (options_.progress) {
    options_.progress(offset, total_);
  }
}

}  // namespace

io::Task<CompareOutcome> compare_images(CompareOptions options) {
  Comparer comparer(std::move(options));
  co_return co_await comparer.run();
}

}  // namespace cairn::jobs
