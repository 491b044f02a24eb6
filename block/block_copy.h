// BlockCopy: copies what is pending of one node to another while both are in use. The one engine
// behind backups, mirrors and whatever saves old data before it is overwritten.
//
// The disk is cut into granules; a granule is pending, or it is not. Two ways of copying differ in
// what a change of the source meanwhile means (Mode):
//
//   kSnapshot  The source must not change under a pending granule. Whoever wants to change it calls
//              copy() first; when that has succeeded nothing in the range is pending, and nobody
//              reads it from the source any more. A granule stops pending when it is in the target.
//   kFollow    The source changes as it likes, and whoever changes it marks the granules when the
//              change is done. A granule stops pending before it is read, so that a change that the
//              copy may have missed leaves it pending.
//
// Invariants
// - Two copies of a granule never overlap: a copy holds its granules locked, exclusively.
// - A copy that fails leaves its granules pending. Nothing is copied twice without having been
//   marked again.
// - Memory is bounded: a fixed number of buffers of one chunk, which are taken after the lock, by
//   those who will not wait for a lock again.
// - What block status says is zero is not read, and not written where the target has zeroes.
//
// A copy does not wait for drains; whoever starts one that no request waits for sees to that
// (wait_for_drain()), and has a RequestScope meanwhile.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/result.h"
#include "block/node.h"
#include "block/sparse_bits.h"
#include "io/buffer.h"
#include "io/range_lock.h"
#include "io/semaphore.h"
#include "io/task.h"

namespace cairn::block {

class BlockCopy {
 public:
  enum class Mode : uint8_t { kSnapshot, kFollow };

  static constexpr uint64_t kLeastGranule = 64u << 10;
  static constexpr uint64_t kUsualChunk = 1u << 20;

  // All sizes are in bytes.
  struct Options {
    Mode mode = Mode::kSnapshot;
    uint64_t granule = kLeastGranule;  // a power of two; a multiple of the target's cluster size
    uint64_t chunk = kUsualChunk;      // most that is read at once, at least a granule
    bool compressed = false;           // data is written compressed
    bool target_is_zero = false;       // at the beginning the target reads as zeroes
    bool holes_are_zeroes = false;     // what is not allocated in the target will always be zero
    bool unmap = true;                 // zeroes may become holes of the target
    bool discard_source = false;       // what has been copied is given up in the source
  };

  // What came of a copy.
  struct Outcome {
    Result<void> result;
    bool reading = false;     // it was the source that failed
    uint64_t data_bytes = 0;  // that were read and written
  };

  // The edges outlive the copy. Nothing is pending.
  BlockCopy(Edge& source, Edge& target, Options options);
  BlockCopy(const BlockCopy&) = delete;
  BlockCopy& operator=(const BlockCopy&) = delete;

  // 64 KiB, or what the target is allocated in when that is more; at least `least`. EINVAL when
  // `least` is not a power of two.
  [[nodiscard]] static Result<uint64_t> granule_for(const Node& target, uint64_t least);

  [[nodiscard]] const Options& options() const { return options_; }
  void set_chunk(uint64_t bytes);
  void set_compressed(bool on) { options_.compressed = on; }
  void set_holes_are_zeroes(bool on) { options_.holes_are_zeroes = on; }
  void set_discard_source(bool on) { options_.discard_source = on; }
  void set_target_is_zero();
  [[nodiscard]] uint64_t granule() const { return options_.granule; }
  [[nodiscard]] Edge& source() const { return source_; }
  [[nodiscard]] Edge& target() const { return target_; }
  // Bytes of the disk.
  [[nodiscard]] uint64_t length() const { return length_; }

  // One bit a granule.
  [[nodiscard]] const SparseBits& pending() const { return pending_; }
  // Bytes that are pending, up to the disk's end.
  [[nodiscard]] uint64_t pending_bytes() const;
  // The same, and those that are being copied.
  [[nodiscard]] uint64_t uncopied_bytes() const { return pending_bytes() + moving_; }
  // Granules that a range touches; to unmark: that it covers.
  void mark(uint64_t offset, uint64_t length);
  void unmark_covered(uint64_t offset, uint64_t length);
  [[nodiscard]] bool any_pending(uint64_t offset, uint64_t length) const;
  // The next run of pending granules that begins at `from` or later, as offset and length.
  [[nodiscard]] std::optional<std::pair<uint64_t, uint64_t>> next_pending(uint64_t from) const;

  // Locks on bytes of the disk. Copies take theirs exclusively; whoever reads from the source what
  // is pending takes them shared, and is sure that it is not changed meanwhile.
  [[nodiscard]] io::RangeLock& locks() { return locks_; }

  // What of a run should be copied at once: one chunk of data, or a long range of zeroes.
  struct Step {
    bool zero = false;
    uint64_t length = 0;
  };
  [[nodiscard]] io::Task<Step> next_step(uint64_t offset, uint64_t length);
  // Copies what is pending of the granules that a range touches, one chunk after the other, and
  // waits for those who copy it already.
  [[nodiscard]] io::Task<Outcome> copy(uint64_t offset, uint64_t length);

  // A part of the target is written to by somebody else, in step with the source.
  void target_changes(uint64_t offset, uint64_t length);
  // The next request to the target, which is part of one that was let in, waits for no drain.
  void let_target_through() const { let_through(target_); }

  // Who is to hear how many bytes are not pending any more, because they were copied.
  void set_on_copied(std::function<void(uint64_t bytes)> callback) {
    on_copied_ = std::move(callback);
  }

 private:
  [[nodiscard]] uint64_t first_granule(uint64_t offset) const { return offset >> shift_; }
  [[nodiscard]] uint64_t end_granule(uint64_t offset, uint64_t length) const;
  [[nodiscard]] io::Task<void> copy_run(uint64_t offset, uint64_t end, Outcome& outcome);
  [[nodiscard]] io::Task<void> copy_step(uint64_t offset, Step step, Outcome& outcome);
  [[nodiscard]] io::Task<Step> classify(uint64_t offset, uint64_t end);
  [[nodiscard]] io::Task<void> move_data(uint64_t offset, uint64_t length, Outcome& outcome);
  [[nodiscard]] io::Task<Result<void>> make_zero(uint64_t offset, uint64_t length);
  [[nodiscard]] io::Task<Result<void>> make_zero_within(uint64_t offset, uint64_t length);
  [[nodiscard]] io::Task<void> target_readers_gone();
  [[nodiscard]] Result<io::AlignedBuffer> take_buffer();
  void let_through(const Edge& edge) const;

  Edge& source_;
  Edge& target_;
  Options options_;
  unsigned shift_;
  uint64_t length_;
  // Holes of the target show the source: see target_readers_gone().
  bool target_shows_source_;
  SparseBits pending_;
  SparseBits known_zero_;  // granules of the target that nobody wrote data to
  uint64_t moving_ = 0;    // bytes that are being copied and not pending: see kFollow
  io::RangeLock locks_;
  io::Semaphore buffers_;
  std::vector<io::AlignedBuffer> spare_;
  std::function<void(uint64_t)> on_copied_;
};

// Waits while a drain keeps requests of the root edge out. There is none when it returns, until the
// caller suspends.
[[nodiscard]] io::Task<void> wait_for_drain(Edge& root);

}  // namespace cairn::block
