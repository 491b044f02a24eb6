#include "jobs/copy.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <utility>

#include "base/bytes.h"
#include "base/sector.h"
#include "io/buffer.h"
#include "io/event.h"
#include "io/iovector.h"
#include "io/mutex.h"
#include "io/reactor.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "jobs/zero_runs.h"

namespace cairn::jobs {
namespace {

constexpr uint64_t kPacedPiece = 256u << 10;   // where the rate is limited, so that data flows
constexpr uint64_t kComparedUnit = 64u << 10;  // what a copy that compares writes at least

// A part of the joined sources, no longer than a buffer when it is data.
struct Piece {
  enum class Kind : uint8_t { kData, kZero, kSkip };
  Kind kind = Kind::kSkip;
  uint64_t offset = 0;  // in the target
  uint64_t length = 0;  // 0: there is nothing more
  size_t source = 0;    // index of the one that it begins in
  uint64_t source_offset = 0;
  const block::Node* host = nullptr;  // with host_offset: where the data lies; null: not known
  uint64_t host_offset = 0;
  // For data: set when the piece before has begun its last write, and by this one for the next.
  std::shared_ptr<io::Event> turn;
  std::shared_ptr<io::Event> next_turn;
};

// One run of copy_images(). Lives in its coroutine frame.
class Copier {
 public:
  explicit Copier(const CopyOptions& options);

  io::Task<Result<void>> run();

 private:
  io::Task<void> work();
  // What a worker needs for a piece.
  struct Desk {
    io::AlignedBuffer buffer;
    io::AlignedBuffer held;  // what the target holds; for copies that compare
    std::vector<DataRun> runs;
  };
  [[nodiscard]] Result<Desk> make_desk() const;
  io::Task<Result<void>> work_until_done(Desk& desk);
  io::Task<Result<Piece>> next_piece();
  io::Task<Result<void>> refresh_status();
  void align_run();
  io::Task<bool> offload(const Piece& piece);
  io::Task<Result<void>> copy_data(Piece piece, Desk& desk);
  io::Task<void> find_same(const Piece& piece, std::span<const std::byte> bytes, Desk& desk);
  io::Task<Result<void>> read_data(const Piece& piece, std::span<std::byte> bytes);
  io::Task<Result<void>> read_source(block::Edge& source, uint64_t offset,
                                     std::span<std::byte> bytes);
  io::Task<Result<void>> write_run(const Piece& piece, std::span<const std::byte> bytes,
                                   DataRun run);
  io::Task<void> write_last_run(const Piece& piece, std::span<const std::byte> bytes, DataRun run,
                                Result<void>& result);
  io::Task<Result<void>> make_zero(uint64_t offset, uint64_t length);
  [[nodiscard]] Result<void> check_cancelled() const;
  io::Task<void> keep_rate(uint64_t bytes);
  void advance(uint64_t bytes);

  const CopyOptions& options_;
  uint64_t total_ = 0;      // bytes to copy
  uint64_t alignment_ = 1;  // pieces begin and end at multiples of this, or at the end
  uint64_t piece_size_;
  ZeroRunRules zero_rules_;

  io::AsyncMutex cursor_lock_;  // guards what follows, over refresh_status()
  size_t source_index_ = 0;
  uint64_t source_offset_ = 0;  // in the current source
  uint64_t position_ = 0;       // in the target
  Piece::Kind run_kind_ = Piece::Kind::kSkip;
  uint64_t run_left_ = 0;                  // bytes from the cursor that run_kind_ holds for
  const block::Node* run_host_ = nullptr;  // as in Piece, at the cursor
  uint64_t run_host_offset_ = 0;
  std::shared_ptr<io::Event> turn_;

  uint64_t done_ = 0;
  io::TimePoint earliest_;  // when the rate limit lets the next data through
  Result<void> outcome_;
};

Copier::Copier(const CopyOptions& options) : options_(options), piece_size_(options.piece_size) {
  for (const block::Edge* source : options.sources) {
    total_ += source->length();
  }
  total_ = std::min(total_ - options.skip, options.length);
  source_offset_ = options.skip;
  const uint64_t cluster = options.target->node().driver().cluster_size();
  zero_rules_ = {.shortest = options.look_for_zeroes ? options.sparse_size : 0,
                 .alignment = std::max<uint64_t>(cluster, 1),
                 .image_length = total_};
  if (options.rate_limit != 0) {
    piece_size_ = std::min(piece_size_, kPacedPiece);
  }
  if (options.compressed) {
    alignment_ = zero_rules_.alignment;
    piece_size_ = std::max(piece_size_, alignment_);
  }
  turn_ = std::make_shared<io::Event>();
  turn_->set();
}

io::Task<Result<void>> Copier::run() {
  earliest_ = io::Reactor::current().now();
  advance(0);
  io::TaskGroup workers;
  for (unsigned i = 0; i < std::max(options_.workers, 1u); ++i) {
    workers.spawn(work());
  }
  co_await workers.join();
  co_return std::move(outcome_);
}

io::Task<void> Copier::work() {
  Result<Desk> desk = make_desk();
  Result<void> result;
  if (desk) {
    result = co_await work_until_done(*desk);
  } else {
    result = pass(desk);
  }
  if (!result && outcome_) {
    outcome_ = std::move(result);
  }
}

Result<Copier::Desk> Copier::make_desk() const {
  Result<io::AlignedBuffer> buffer = io::AlignedBuffer::allocate(piece_size_);
  if (!buffer) {
    return pass(buffer);
  }
  Desk desk{.buffer = std::move(*buffer), .held = {}, .runs = {}};
  if (options_.compare) {
    Result<io::AlignedBuffer> held = io::AlignedBuffer::allocate(piece_size_);
    if (!held) {
      return pass(held);
    }
    desk.held = std::move(*held);
  }
  return desk;
}

io::Task<Result<void>> Copier::work_until_done(Desk& desk) {
  while (outcome_) {
    if (auto wanted = check_cancelled(); !wanted) {
      co_return wanted;
    }
    Result<Piece> piece = co_await next_piece();
    if (!piece) {
      co_return pass(piece);
    }
    if (piece->length == 0) {
      break;
    }
    const uint64_t length = piece->length;
    Result<void> copied;
    if (piece->kind == Piece::Kind::kData) {
      copied = co_await copy_data(std::move(*piece), desk);
    } else if (piece->kind == Piece::Kind::kZero) {
      copied = co_await make_zero(piece->offset, length);
    }
    if (!copied) {
      co_return copied;
    }
    advance(length);
  }
  co_return Result<void>();
}

io::Task<Result<Piece>> Copier::next_piece() {
  const auto guard = co_await cursor_lock_.lock();
  Piece piece;
  if (position_ == total_) {
    co_return piece;
  }
  while (source_index_ < options_.sources.size() &&
         source_offset_ >= options_.sources[source_index_]->length()) {
    source_offset_ -= options_.sources[source_index_++]->length();
  }
  if (source_index_ == options_.sources.size()) {
    co_return fail(EIO, "a source has become shorter while it was copied");
  }
  if (run_left_ == 0) {
    Result<void> refreshed = co_await refresh_status();
    if (!refreshed) {
      co_return pass(refreshed);
    }
  }
  piece.kind = run_kind_;
  piece.offset = position_;
  piece.length = run_left_;
  piece.source = source_index_;
  piece.source_offset = source_offset_;
  if (piece.kind == Piece::Kind::kData) {
    // Pieces end at multiples of their size, so that none but the first and last cut a cluster.
    piece.length = std::min(piece.length, piece_size_ - position_ % piece_size_);
    piece.turn = turn_;
    turn_ = std::make_shared<io::Event>();
    piece.next_turn = turn_;
  }
  piece.host = run_host_;
  piece.host_offset = run_host_offset_;
  run_host_offset_ += piece.length;
  run_left_ -= piece.length;
  source_offset_ += piece.length;
  position_ += piece.length;
  co_return piece;
}

// Asks what lies at the cursor.
io::Task<Result<void>> Copier::refresh_status() {
  block::Edge& source = *options_.sources[source_index_];
  const uint64_t left = std::min(source.length() - source_offset_, total_ - position_);
  Result<block::BlockStatus> status = block::BlockStatus{};
  if (options_.target_has_backing) {
    status = co_await source.status(source_offset_, left);
  } else {
    Result<block::ChainStatus> found =
        co_await source.chain_status(source_offset_, left, options_.base);
    if (found) {
      status = found->status;
    } else {
      status = pass(found);
    }
  }
  if (!status) {
    if (!options_.salvage) {
      co_return fail(status.error().code(), "error while reading block status at offset {}: {}",
                     source_offset_, std::strerror(status.error().code()));
    }
    // Reading will show what is there.
    status =
        block::BlockStatus{.length = std::min(left, piece_size_), .data = true, .allocated = true};
  }
  run_left_ = status->length;
  run_host_ = status->data && !status->compressed ? status->host : nullptr;
  run_host_offset_ = status->host_offset;
  if (status->zero) {
    run_kind_ = options_.sparse_size == 0 ? Piece::Kind::kData : Piece::Kind::kZero;
  } else if ((options_.target_has_backing || options_.base != nullptr) && !status->allocated) {
    run_kind_ = Piece::Kind::kSkip;
  } else {
    run_kind_ = Piece::Kind::kData;
  }
  align_run();
  co_return Result<void>();
}

// Has the run at the cursor, which is aligned, end at a unit of the target when that is asked for:
// units that hold some data are data.
void Copier::align_run() {
  const uint64_t end = position_ + run_left_;
  if (end == total_ || is_aligned(end, alignment_)) {
    return;
  }
  if (run_kind_ != Piece::Kind::kData && run_left_ >= alignment_) {
    run_left_ = align_down(end, alignment_) - position_;
  } else {
    run_kind_ = Piece::Kind::kData;
    run_left_ = std::min(align_up(end, alignment_), total_) - position_;
    run_host_ = nullptr;
  }
}

io::Task<Result<void>> Copier::copy_data(Piece piece, Desk& desk) {
  const std::span<std::byte> bytes = desk.buffer.span().first(piece.length);
  std::vector<DataRun>& runs = desk.runs;
  co_await keep_rate(piece.length);
  const bool offloaded = co_await offload(piece);
  if (offloaded) {
    piece.next_turn->set();
    Result<void> behind;
    if (options_.behind != nullptr) {
      behind = co_await options_.behind->written(piece.length);
    }
    co_return behind;
  }
  Result<void> result = co_await read_data(piece, bytes);
  if (result) {
    find_zero_runs(bytes, piece.offset, zero_rules_, runs);
    if (options_.compare) {
      co_await find_same(piece, bytes, desk);
    }
  }
  if (options_.ordered) {
    co_await piece.turn->wait();
  }
  // Whatever happens, those who wait for their turn must get it.
  for (size_t i = 0; result && outcome_ && i < runs.size(); ++i) {
    if (i + 1 < runs.size()) {
      result = co_await write_run(piece, bytes, runs[i]);
      continue;
    }
    io::TaskGroup last;
    last.spawn(write_last_run(piece, bytes, runs[i], result));
    piece.next_turn->set();
    co_await last.join();
  }
  piece.next_turn->set();
  co_return result;
}

// Divides the runs of data into what the target holds already and what it does not.
io::Task<void> Copier::find_same(const Piece& piece, std::span<const std::byte> bytes, Desk& desk) {
  const uint64_t unit = std::max(alignment_, kComparedUnit);
  std::vector<DataRun> divided;
  for (size_t i = 0; i < desk.runs.size(); ++i) {
    const DataRun run = desk.runs[i];
    if (run.zero) {
      divided.push_back(run);
      continue;
    }
    // What can not be read is not the same.
    const Result<void> read = co_await options_.target->read(
        piece.offset + run.offset, desk.held.span().data() + run.offset, run.length);
    for (uint64_t at = run.offset; at < run.offset + run.length;) {
      const uint64_t length =
          std::min(run.offset + run.length - at, unit - (piece.offset + at) % unit);
      const bool same =
          read && std::memcmp(bytes.data() + at, desk.held.span().data() + at, length) == 0;
      if (!divided.empty() && divided.back().same == same && !divided.back().zero) {
        divided.back().length += length;
      } else {
        divided.push_back({.offset = at, .length = length, .same = same});
      }
      at += length;
    }
  }
  desk.runs = std::move(divided);
}

io::Task<bool> Copier::offload(const Piece& piece) {
  if (options_.offload == nullptr || piece.host == nullptr) {
    co_return false;
  }
  co_return co_await options_.offload->copy(*piece.host, piece.host_offset, piece.offset,
                                            piece.length);
}

// A piece may go on in the sources behind the one it begins in.
io::Task<Result<void>> Copier::read_data(const Piece& piece, std::span<std::byte> bytes) {
  uint64_t offset = piece.source_offset;
  for (size_t i = piece.source; !bytes.empty(); ++i, offset = 0) {
    block::Edge& source = *options_.sources[i];
    const uint64_t length = std::min<uint64_t>(bytes.size(), source.length() - offset);
    Result<void> read = co_await read_source(source, offset, bytes.first(length));
    if (!read) {
      co_return read;
    }
    bytes = bytes.subspan(length);
  }
  co_return Result<void>();
}

io::Task<Result<void>> Copier::read_source(block::Edge& source, uint64_t offset,
                                           std::span<std::byte> bytes) {
  Result<void> read = co_await source.read(offset, bytes.data(), bytes.size());
  if (read) {
    co_return read;
  }
  if (!options_.salvage) {
    co_return fail(read.error().code(), "error while reading at byte {}: {}", offset,
                   std::strerror(read.error().code()));
  }
  for (uint64_t done = 0; done < bytes.size(); done += kSector) {
    const std::span<std::byte> sector =
        bytes.subspan(done, std::min<uint64_t>(kSector, bytes.size() - done));
    Result<void> part = co_await source.read(offset + done, sector.data(), sector.size());
    if (!part) {
      if (options_.on_unreadable) {
        options_.on_unreadable(offset + done, part.error());
      }
      std::memset(sector.data(), 0, sector.size());
    }
  }
  co_return Result<void>();
}

io::Task<Result<void>> Copier::write_run(const Piece& piece, std::span<const std::byte> bytes,
                                         DataRun run) {
  const uint64_t offset = piece.offset + run.offset;
  if (run.zero) {
    co_return co_await make_zero(offset, run.length);
  }
  if (run.same) {
    co_return Result<void>();
  }
  if (options_.compare && options_.compressed) {
    // Compressed data overwrites none.
    Result<void> cleared =
        co_await options_.target->write_zeroes(offset, run.length, {.may_unmap = true});
    if (!cleared) {
      co_return cleared;
    }
  }
  const block::WriteFlags flags{.fua = options_.fua, .compressed = options_.compressed};
  Result<void> written =
      co_await options_.target->write(offset, bytes.data() + run.offset, run.length, flags);
  if (!written) {
    co_return fail(written.error().code(), "error while writing at byte {}: {}", offset,
                   std::strerror(written.error().code()));
  }
  if (options_.behind != nullptr) {
    written = co_await options_.behind->written(run.length);
  }
  co_return written;
}

io::Task<void> Copier::write_last_run(const Piece& piece, std::span<const std::byte> bytes,
                                      DataRun run, Result<void>& result) {
  result = co_await write_run(piece, bytes, run);
}

// Makes the target read as zeroes, where it does not already.
io::Task<Result<void>> Copier::make_zero(uint64_t offset, uint64_t length) {
  if (options_.target_has_backing) {
    const uint64_t end = std::min(offset + length, std::max(options_.backing_length, offset));
    length = end - offset;
  } else if (options_.target_is_zero) {
    co_return Result<void>();
  }
  while (length > 0) {
    if (auto wanted = check_cancelled(); !wanted) {
      co_return wanted;
    }
    uint64_t step = length;
    bool needed = true;
    if (options_.base == nullptr) {
      const Result<block::ChainStatus> now = co_await options_.target->chain_status(offset, length);
      if (now) {
        step = now->status.length;
        needed = !now->status.zero;
      }
    }
    if (needed) {
      const block::ZeroFlags flags{.fua = options_.fua, .may_unmap = options_.sparse_size != 0};
      Result<void> zeroed = co_await options_.target->write_zeroes(offset, step, flags);
      if (!zeroed) {
        co_return fail(zeroed.error().code(), "error while writing at byte {}: {}", offset,
                       std::strerror(zeroed.error().code()));
      }
    }
    offset += step;
    length -= step;
  }
  co_return Result<void>();
}

Result<void> Copier::check_cancelled() const {
  return options_.cancel.cancelled() ? fail_errno(ECANCELED, "The copy was interrupted")
                                     : Result<void>{};
}

io::Task<void> Copier::keep_rate(uint64_t bytes) {
  if (options_.rate_limit == 0) {
    co_return;
  }
  const io::TimePoint now = io::Reactor::current().now();
  const io::TimePoint begin = std::max(earliest_, now);
  const std::chrono::duration<double> cost(static_cast<double>(bytes) /
                                           static_cast<double>(options_.rate_limit));
  earliest_ = begin + std::chrono::duration_cast<io::Duration>(cost);
  if (begin > now) {
    (void)co_await io::sleep_until(begin, options_.cancel);
  }
}

void Copier::advance(uint64_t bytes) {
  done_ += bytes;
  if (options_.progress) {
    options_.progress(done_, total_);
  }
}

}  // namespace

io::Task<Result<void>> copy_images(const CopyOptions& options) {
  Copier copier(options);
  co_return co_await copier.run();
}

}  // namespace cairn::jobs
