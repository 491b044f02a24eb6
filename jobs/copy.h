// Copying images: from one or several sources, joined, into one target, in parallel and in bounded
// memory, leaving out what need not be written.
//
// What a source's block status says is zero is never read, and what reads as zeroes for long enough
// is not written as data. Runs of zeroes cost one request, however long they are.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "block/node.h"
#include "io/cancel.h"
#include "io/task.h"

namespace cairn::jobs {

// Is told what a copy has written, and may have it wait, or fail.
class WriteBehind {
 public:
  WriteBehind() = default;
  WriteBehind(const WriteBehind&) = delete;
  WriteBehind& operator=(const WriteBehind&) = delete;
  virtual ~WriteBehind() = default;
  // `bytes` more; several of the copy's workers may be waiting at the same time.
  [[nodiscard]] virtual io::Task<Result<void>> written(uint64_t bytes) = 0;
};

// Copies data of files without moving it through this process.
class Offload {
 public:
  Offload() = default;
  Offload(const Offload&) = delete;
  Offload& operator=(const Offload&) = delete;
  virtual ~Offload() = default;
  // `length` bytes of the node `from` to the target at `to`. False: it could not; then they are
  // read and written, whatever the target holds there now.
  [[nodiscard]] virtual io::Task<bool> copy(const block::Node& from, uint64_t from_offset,
                                            uint64_t to, uint64_t length) = 0;
};

struct CopyOptions {
  // All sizes are in bytes. Edges outlive the copy.
  std::vector<block::Edge*> sources;
  block::Edge* target = nullptr;
  // A part of the joined sources alone, which comes to lie at the target's beginning.
  uint64_t skip = 0;             // at most their length
  uint64_t length = UINT64_MAX;  // cut off where they end

  unsigned workers = 8;               // pieces in flight, each with a buffer
  uint64_t piece_size = 1024u << 10;  // of one buffer; a power of two
  // Pieces are begun in order, so that the target's space is given out in order. Otherwise a piece
  // is written as soon as it is read.
  bool ordered = true;
  // Shortest run of zeroes that is left out of the data, a multiple of 512; 0: everything is
  // written as data, so that the target is fully allocated.
  uint64_t sparse_size = 4096;
  // Zeroes are looked for in data; otherwise those count alone that block status knows of.
  bool look_for_zeroes = true;

  bool target_is_zero = false;  // reads as zeroes where nothing is written
  // The target is an overlay over an image with the content of the first source's backing file:
  // what the first source leaves to its backing file is left out. Beyond backing_length the overlay
  // reads as zeroes.
  bool target_has_backing = false;
  uint64_t backing_length = 0;
  // The target is an image of the source's backing chain, this one: only what lies above it is
  // copied, and zeroes become zeroes of the target's own. Null: it is not. Needs a single source.
  const block::Node* base = nullptr;

  // The target may hold some of it already, from a copy that did not come to its end: data that it
  // reads as already is not written again. Whatever else it holds is written over. Not with a
  // target_has_backing.
  bool compare = false;

  // Data is written compressed, in whole units of allocation. The target has to have room for them:
  // compressed data overwrites none.
  bool compressed = false;

  bool salvage = false;           // what can not be read becomes zeroes
  uint64_t rate_limit = 0;        // bytes of data a second; 0: none
  bool fua = false;               // each piece is durable before it counts as done
  WriteBehind* behind = nullptr;  // outlives the copy; may be null
  // Is asked first to copy what the sources store as it is, zeroes included. Outlives the copy; may
  // be null.
  Offload* offload = nullptr;
  io::CancelToken cancel;  // the copy fails with ECANCELED, once no request runs

  std::function<void(uint64_t done, uint64_t total)> progress;             // may be empty
  std::function<void(uint64_t offset, const Error& error)> on_unreadable;  // while salvaging
};

// Copies everything. Does not flush the target. On failure it has been written in part.
[[nodiscard]] io::Task<Result<void>> copy_images(const CopyOptions& options);

}  // namespace cairn::jobs
