#include "block/block_copy.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <memory>
#include <unordered_set>

#include "base/bytes.h"
#include "block/engine.h"
#include "block/graph.h"
#include "block/graph_edit.h"
#include "io/event.h"

namespace cairn::block {
namespace {

constexpr uint64_t kBufferMemory = 64u << 20;
constexpr std::size_t kSpareBuffers = 8;
// Zeroes are made in steps of at most this many bytes, so that nobody waits for long.
constexpr uint64_t kZeroStep = uint64_t{1} << 30;

std::size_t buffers_of(uint64_t chunk) {
  return static_cast<std::size_t>(std::max<uint64_t>(kBufferMemory / chunk, 2));
}

// `top` and what is below it, as far as it stands on `below`, which is left out.
std::vector<std::shared_ptr<Node>> nodes_between(Node& top, const Node& below) {
  std::vector<std::shared_ptr<Node>> found;
  std::unordered_set<const Node*> seen{&below};
  std::vector<Node*> ways{&top};
  while (!ways.empty()) {
    Node* node = ways.back();
    ways.pop_back();
    if (seen.insert(node).second && stands_on(*node, below)) {
      found.push_back(node->shared_from_this());
      for (const auto& edge : node->children()) {
        ways.push_back(&edge->node());
      }
    }
  }
  return found;
}

}  // namespace

io::Task<void> wait_for_drain(Edge& root) {
  while (Engine::must_wait(root)) {
    co_await Engine::admitted(root.node().graph());
  }
}

Result<uint64_t> BlockCopy::granule_for(const Node& target, uint64_t least) {
  if (least != 0 && !std::has_single_bit(least)) {
    return fail(EINVAL, "min-cluster-size needs to be a power of 2");
  }
  const uint64_t cluster = target.driver().cluster_size();
  return std::bit_ceil(std::max({kLeastGranule, cluster, least}));
}

BlockCopy::BlockCopy(Edge& source, Edge& target, Options options)
    : source_(source),
      target_(target),
      options_(options),
      shift_(static_cast<unsigned>(std::countr_zero(options.granule))),
      length_(source.length()),
      target_shows_source_(stands_on(target.node(), source.node())),
      pending_(end_granule(0, length_)),
      known_zero_(pending_.size()),
      buffers_(buffers_of(std::max(options.chunk, options.granule))) {
  set_chunk(options.chunk);
  if (options.target_is_zero) {
    set_target_is_zero();
  }
}

void BlockCopy::set_chunk(uint64_t bytes) {
  const uint64_t most = std::max(kUsualChunk, options_.granule);
  options_.chunk = align_down(std::clamp(bytes, options_.granule, most), options_.granule);
  spare_.clear();
}

void BlockCopy::set_target_is_zero() {
  options_.target_is_zero = true;
  known_zero_.set(0, known_zero_.size());
}

uint64_t BlockCopy::end_granule(uint64_t offset, uint64_t length) const {
  const uint64_t end = std::min(offset + length, length_);
  return (end + options_.granule - 1) >> shift_;
}

uint64_t BlockCopy::pending_bytes() const {
  uint64_t bytes = pending_.count() << shift_;
  if (pending_.size() != 0 && pending_.test(pending_.size() - 1)) {
    bytes -= (pending_.size() << shift_) - length_;
  }
  return bytes;
}

void BlockCopy::mark(uint64_t offset, uint64_t length) {
  const uint64_t first = first_granule(offset);
  const uint64_t end = end_granule(offset, length);
  if (first < end) {
    pending_.set(first, end - first);
  }
}

void BlockCopy::unmark_covered(uint64_t offset, uint64_t length) {
  const uint64_t first = first_granule(offset + options_.granule - 1);
  const uint64_t end = offset + length >= length_ ? pending_.size() : (offset + length) >> shift_;
  if (first < end) {
    pending_.clear(first, end - first);
  }
}

bool BlockCopy::any_pending(uint64_t offset, uint64_t length) const {
  return pending_.next_set(first_granule(offset), end_granule(offset, length)).has_value();
}

std::optional<std::pair<uint64_t, uint64_t>> BlockCopy::next_pending(uint64_t from) const {
  const std::optional<uint64_t> first = pending_.next_set(first_granule(from), pending_.size());
  if (!first) {
    return std::nullopt;
  }
  const uint64_t end = pending_.next_clear(*first, pending_.size()).value_or(pending_.size());
  const uint64_t offset = *first << shift_;
  return std::pair(offset, std::min(end << shift_, length_) - offset);
}

void BlockCopy::target_changes(uint64_t offset, uint64_t length) {
  const uint64_t first = first_granule(offset);
  known_zero_.clear(first, end_granule(offset, length) - first);
}

// Root edges are let through one by one: the pass is good for one drain.
void BlockCopy::let_through(const Edge& edge) const {
  if (edge.parent() == nullptr) {
    Edge& root = &edge == &source_ ? source_ : target_;
    root.node().graph().let_through(root);
  }
}

io::Task<BlockCopy::Step> BlockCopy::next_step(uint64_t offset, uint64_t length) {
  return classify(offset, offset + std::min(length, kZeroStep));
}

io::Task<BlockCopy::Outcome> BlockCopy::copy(uint64_t offset, uint64_t length) {
  Outcome outcome;
  const uint64_t begin = align_down(offset, options_.granule);
  const uint64_t end = std::min(align_up(offset + length, options_.granule), length_);
  const auto lock = co_await locks_.lock_exclusive(begin, end - begin);
  for (auto run = next_pending(begin); run && run->first < end;) {
    const uint64_t run_end = std::min(run->first + run->second, end);
    co_await copy_run(run->first, run_end, outcome);
    if (!outcome.result || run_end == end) {
      break;
    }
    run = next_pending(run_end);
  }
  co_return outcome;
}

// The caller holds the lock.
io::Task<void> BlockCopy::copy_run(uint64_t offset, uint64_t end, Outcome& outcome) {
  const bool follow = options_.mode == Mode::kFollow;
  if (follow) {
    unmark_covered(offset, end - offset);
    moving_ += end - offset;
  }
  while (offset < end && outcome.result) {
    const Step step = co_await classify(offset, end);
    co_await copy_step(offset, step, outcome);
    if (outcome.result) {
      moving_ -= follow ? step.length : 0;
      if (on_copied_) {
        on_copied_(step.length);
      }
      offset += step.length;
    }
  }
  if (follow && offset < end) {
    moving_ -= end - offset;
    mark(offset, end - offset);
  }
}

io::Task<void> BlockCopy::copy_step(uint64_t offset, Step step, Outcome& outcome) {
  if (step.zero) {
    outcome.result = co_await make_zero(offset, step.length);
  } else {
    co_await move_data(offset, step.length, outcome);
  }
  if (!outcome.result) {
    co_return;
  }
  if (options_.mode == Mode::kSnapshot) {
    if (target_shows_source_) {
      co_await target_readers_gone();
    }
    unmark_covered(offset, step.length);
  }
  if (options_.discard_source) {
    // Advice: the copy is there, whatever comes of it.
    let_through(source_);
    const Result<void> discarded = co_await source_.discard(offset, step.length);
    static_cast<void>(discarded);
  }
}

// What lies at the beginning of a range, in whole granules: those that hold some data are data.
io::Task<BlockCopy::Step> BlockCopy::classify(uint64_t offset, uint64_t end) {
  let_through(source_);
  const Result<ChainStatus> found = co_await source_.chain_status(offset, end - offset);
  Step step{.zero = false, .length = end - offset};
  if (found) {
    step.zero = found->status.zero;
    step.length = std::min(step.length, found->status.length);
  }
  if (offset + step.length < end) {
    if (step.zero && step.length >= options_.granule) {
      step.length = align_down(step.length, options_.granule);
    } else {
      step.zero = false;
      step.length = std::min(align_up(step.length, options_.granule), end - offset);
    }
  }
  if (!step.zero) {
    step.length = std::min(step.length, options_.chunk);
  }
  co_return step;
}

Result<io::AlignedBuffer> BlockCopy::take_buffer() {
  if (spare_.empty()) {
    return io::AlignedBuffer::allocate(options_.chunk);
  }
  io::AlignedBuffer buffer = std::move(spare_.back());
  spare_.pop_back();
  return buffer;
}

io::Task<void> BlockCopy::move_data(uint64_t offset, uint64_t length, Outcome& outcome) {
  const auto turn = co_await buffers_.acquire();
  Result<io::AlignedBuffer> buffer = take_buffer();
  if (!buffer) {
    outcome.result = pass(buffer);
    co_return;
  }
  let_through(source_);
  outcome.result = co_await source_.read(offset, buffer->data(), length);
  outcome.reading = !outcome.result;
  if (outcome.result) {
    const WriteFlags flags{.compressed = options_.compressed};
    target_changes(offset, length);
    let_through(target_);
    outcome.result = co_await target_.write(offset, buffer->data(), length, flags);
    outcome.data_bytes += length;
  }
  if (spare_.size() < kSpareBuffers && buffer->size() == options_.chunk) {
    spare_.push_back(std::move(*buffer));
  }
}

// Makes the target read as zeroes, but for the granules where it is known to.
io::Task<Result<void>> BlockCopy::make_zero(uint64_t offset, uint64_t length) {
  const uint64_t end = offset + length;
  while (offset < end) {
    const auto first =
        known_zero_.next_clear(first_granule(offset), end_granule(offset, end - offset));
    if (!first) {
      break;
    }
    const uint64_t last =
        known_zero_.next_set(*first, known_zero_.size()).value_or(known_zero_.size());
    offset = std::max(offset, *first << shift_);
    const uint64_t run_end = std::min(end, last << shift_);
    Result<void> zeroed = co_await make_zero_within(offset, run_end - offset);
    if (!zeroed) {
      co_return zeroed;
    }
    offset = run_end;
  }
  co_return Result<void>();
}

// Zeroes that are there already are left alone. What only looks like them, because nothing is
// allocated, may look different when the target gets another backing file.
io::Task<Result<void>> BlockCopy::make_zero_within(uint64_t offset, uint64_t length) {
  while (length > 0) {
    let_through(target_);
    const Result<BlockStatus> now = co_await target_.status(offset, length);
    uint64_t step = length;
    bool needed = true;
    if (now) {
      step = now->length;
      needed = !now->zero || (!now->allocated && !options_.holes_are_zeroes);
    }
    if (needed) {
      let_through(target_);
      Result<void> zeroed =
          co_await target_.write_zeroes(offset, step, {.may_unmap = options_.unmap});
      if (!zeroed) {
        co_return zeroed;
      }
    }
    offset += step;
    length -= step;
  }
  co_return Result<void>();
}

// Requests that read the target may have found a hole there before the copy, and read the source
// on; the source must not change before they are done.
io::Task<void> BlockCopy::target_readers_gone() {
  const std::vector<std::shared_ptr<Node>> nodes = nodes_between(target_.node(), source_.node());
  for (const std::shared_ptr<Node>& node : nodes) {
    io::Event gone;
    node->epochs().defer([&gone] { gone.set(); });
    co_await gone.wait();
  }
}

}  // namespace cairn::block
