// What stands between the engine and the drivers that carry requests out: requests are cut,
// widened and bounced to obey the driver's limits, and what it can not do is emulated.
#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "block/engine.h"
#include "block/fault_point.h"
#include "block/zero_source.h"

namespace cairn::block {
namespace {

// A bounced request is carried out in pieces of at most this many bytes.
constexpr uint64_t kBouncePiece = 1 << 20;

uint64_t piece_limit(const Limits& limits) {
  const uint64_t alignment = std::max(limits.request_alignment, limits.memory_alignment);
  const uint64_t limit =
      limits.max_transfer != 0 ? std::min(limits.max_transfer, kBouncePiece) : kBouncePiece;
  return std::max(align_down(limit, alignment), alignment);
}

// For units that need not be powers of two.
uint64_t round_down(uint64_t value, uint64_t unit) { return value - value % unit; }
uint64_t round_up(uint64_t value, uint64_t unit) { return round_down(value + unit - 1, unit); }

}  // namespace

bool Engine::fits(const Node& node, uint64_t offset, const io::IoVector& data) {
  const Limits& limits = node.limits_;
  const uint64_t length = data.size();
  if (limits.max_transfer != 0 && length > limits.max_transfer) {
    return false;
  }
  if (limits.request_alignment == 1 && limits.memory_alignment == 1) {
    return true;
  }
  return is_aligned(offset | length, limits.request_alignment) &&
         data.is_aligned(limits.memory_alignment);
}

Engine::Outcome Engine::read_leaf(Node& node, uint64_t offset, io::IoVector data) {
  const Limits limits = node.limits_;
  const uint64_t limit = piece_limit(limits);
  uint64_t done = 0;
  while (done < data.size()) {
    const uint64_t at = offset + done;
    uint64_t piece = std::min(data.size() - done, limit);
    io::IoVector target = data.slice(done, piece);
    if (fits(node, at, target)) {
      Result<void> direct = co_await node.request_->read(at, std::move(target));
      if (!direct) {
        co_return direct;
      }
      done += piece;
      continue;
    }
    const uint64_t begin = align_down(at, limits.request_alignment);
    const uint64_t end = std::min(align_up(at + piece, limits.request_alignment), begin + limit);
    piece = std::min(piece, end - at);
    auto bounce = io::AlignedBuffer::allocate(end - begin, limits.memory_alignment);
    if (!bounce) {
      co_return pass(bounce);
    }
    io::IoVector whole(bounce->data(), end - begin);
    Result<void> result = co_await node.request_->read(begin, std::move(whole));
    if (!result) {
      co_return result;
    }
    data.copy_from(done, bounce->span().subspan(at - begin, piece));
    done += piece;
  }
  co_return Result<void>{};
}

Engine::Outcome Engine::write_leaf(Node& node, uint64_t offset, io::IoVector data,
                                   WriteFlags flags) {
  const Limits limits = node.limits_;
  if (limits.request_alignment == 1 && fits(node, offset, data)) {
    co_await fault_point(node, FaultPoint::kPwritev);
    Result<void> result = co_await node.request_->write(offset, std::move(data), flags);
    co_await fault_point(node, FaultPoint::kPwritevDone);
    co_return result;
  }
  const uint64_t length = data.size();
  const uint64_t begin = align_down(offset, limits.request_alignment);
  const uint64_t end = align_up(offset + length, limits.request_alignment);
  if (!is_aligned(offset | length, limits.request_alignment)) {
    // Read-modify-write: nothing else may write to the same blocks meanwhile.
    const auto lock = co_await node.alignment_.lock_exclusive(begin, end - begin);
    Result<void> result = co_await write_leaf_unaligned(node, offset, std::move(data));
    if (result && flags.fua) {
      result = co_await node.driver_->flush();
    }
    co_return result;
  }
  const auto lock = co_await node.alignment_.lock_shared(begin, end - begin);
  co_await fault_point(node, FaultPoint::kPwritev);
  const uint64_t limit = piece_limit(limits);
  uint64_t done = 0;
  while (done < length) {
    uint64_t piece = length - done;
    if (limits.max_transfer != 0) {
      piece = std::min(piece, align_down(limits.max_transfer, limits.request_alignment));
    }
    io::IoVector source = data.slice(done, piece);
    io::AlignedBuffer bounce;
    if (!source.is_aligned(limits.memory_alignment)) {
      piece = std::min(piece, limit);
      auto buffer = io::AlignedBuffer::allocate(piece, limits.memory_alignment);
      if (!buffer) {
        co_return pass(buffer);
      }
      bounce = std::move(*buffer);
      data.copy_to(done, bounce.span());
      source = io::IoVector(bounce.data(), piece);
    }
    Result<void> result = co_await node.request_->write(offset + done, std::move(source), flags);
    if (!result) {
      co_return result;
    }
    done += piece;
  }
  co_await fault_point(node, FaultPoint::kPwritevDone);
  co_return Result<void>{};
}

// What a write leaves of a block, before what it writes or behind it, or both.
Engine::Outcome Engine::read_overwritten(Node& node, uint64_t block, io::IoVector old, bool head,
                                         bool tail) {
  if (head) {
    co_await fault_point(node, FaultPoint::kPwritevRmwHead);
  }
  if (tail) {
    co_await fault_point(node, FaultPoint::kPwritevRmwTail);
  }
  Result<void> read = co_await node.request_->read(block, std::move(old));
  if (!read) {
    co_return read;
  }
  if (head) {
    co_await fault_point(node, FaultPoint::kPwritevRmwAfterHead);
  }
  if (tail) {
    co_await fault_point(node, FaultPoint::kPwritevRmwAfterTail);
  }
  co_return read;
}

// The caller holds the lock on the blocks.
Engine::Outcome Engine::write_leaf_unaligned(Node& node, uint64_t offset, io::IoVector data) {
  const Limits limits = node.limits_;
  const uint64_t alignment = limits.request_alignment;
  const uint64_t limit = piece_limit(limits);
  const uint64_t device_end = align_up(node.length(), alignment);
  const uint64_t length = data.size();
  uint64_t done = 0;
  while (done < length) {
    const uint64_t at = offset + done;
    const uint64_t begin = align_down(at, alignment);
    const uint64_t end = std::min(align_up(offset + length, alignment), begin + limit);
    const uint64_t piece = std::min(length - done, end - at);
    auto bounce = io::AlignedBuffer::allocate(end - begin, limits.memory_alignment);
    if (!bounce) {
      co_return pass(bounce);
    }
    // The first and the last block, where they are not overwritten completely.
    for (const uint64_t block : {begin, end - alignment}) {
      const bool head = block < at;
      const bool tail = block + alignment > at + piece;
      const bool again = block != begin && end - begin == alignment;
      if (again || (!head && !tail)) {
        continue;
      }
      if (block >= device_end) {
        std::fill_n(bounce->data() + (block - begin), alignment, std::byte{0});
        continue;
      }
      io::IoVector old(bounce->data() + (block - begin), alignment);
      Result<void> read = co_await read_overwritten(node, block, std::move(old), head, tail);
      if (!read) {
        co_return read;
      }
    }
    data.copy_to(done, bounce->span().subspan(at - begin, piece));
    io::IoVector whole(bounce->data(), end - begin);
    co_await fault_point(node, FaultPoint::kPwritev);
    Result<void> written = co_await node.request_->write(begin, std::move(whole), WriteFlags{});
    if (!written) {
      co_return written;
    }
    co_await fault_point(node, FaultPoint::kPwritevDone);
    done += piece;
  }
  co_return Result<void>{};
}

Engine::Outcome Engine::zero_leaf(Node& node, uint64_t offset, uint64_t length, ZeroFlags flags) {
  const Limits limits = node.limits_;
  ZeroFlags driver_flags = flags;
  driver_flags.fua = false;  // the choke point flushes afterwards
  co_await fault_point(node, FaultPoint::kPwritevZero);
  while (length > 0) {
    uint64_t piece = length;
    if (limits.max_zeroes != 0) {
      piece = std::min(piece, round_down(limits.max_zeroes, limits.zero_alignment));
    }
    const uint64_t begin = round_up(offset, limits.zero_alignment);
    const uint64_t end = round_down(offset + piece, limits.zero_alignment);
    Result<void> result;
    if (begin > offset || end <= begin) {  // a ragged start, or too little for the driver
      if (flags.no_fallback) {
        co_return fail(ENOTSUP, "'{}' can not zero ranges that are not aligned to {} bytes",
                       node.name(), limits.zero_alignment);
      }
      piece = end > begin ? begin - offset : piece;
      result = co_await zero_leaf_by_writing(node, offset, piece);
    } else {
      piece = end - begin;
      {
        const auto lock = co_await node.alignment_.lock_shared(offset, piece);
        result = co_await node.request_->write_zeroes(offset, piece, driver_flags);
      }
      if (!result && result.error().code() == ENOTSUP && !flags.no_fallback) {
        result = co_await zero_leaf_by_writing(node, offset, piece);
      }
    }
    if (!result) {
      co_return result;
    }
    offset += piece;
    length -= piece;
  }
  co_await fault_point(node, FaultPoint::kPwritevDone);
  co_return Result<void>{};
}

Engine::Outcome Engine::zero_leaf_by_writing(Node& node, uint64_t offset, uint64_t length) {
  while (length > 0) {
    const io::IoVector zeroes = zero_vector(length);
    const uint64_t piece = zeroes.size();
    Result<void> result = co_await write_leaf(node, offset, zeroes, WriteFlags{});
    if (!result) {
      co_return result;
    }
    offset += piece;
    length -= piece;
  }
  co_return Result<void>{};
}

// A discard is advice: ragged ends are left alone, and a driver that can not discard is no error.
Engine::Outcome Engine::discard_leaf(Node& node, uint64_t offset, uint64_t length) {
  const Limits limits = node.limits_;
  const uint64_t begin = round_up(offset, limits.discard_alignment);
  const uint64_t end = round_down(offset + length, limits.discard_alignment);
  for (uint64_t at = begin; at < end;) {
    uint64_t piece = end - at;
    if (limits.max_discard != 0) {
      piece = std::min(piece, round_down(limits.max_discard, limits.discard_alignment));
    }
    Result<void> result;
    {
      const auto lock = co_await node.alignment_.lock_shared(at, piece);
      result = co_await node.request_->discard(at, piece);
    }
    if (!result && result.error().code() != ENOTSUP) {
      co_return result;
    }
    at += piece;
  }
  co_return Result<void>{};
}

}  // namespace cairn::block
