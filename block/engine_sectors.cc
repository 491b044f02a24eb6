// Encrypted extents: requests widened to the sectors of a SectorCodec, and carried out through it.
//
// A write of parts of sectors reads them first, so it locks them against other writes; whole
// sectors take the lock shared. What is written is encoded into memory of its own: the caller's
// must not change.
#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "block/engine.h"
#include "block/sector_codec.h"
#include "io/worker_pool.h"

namespace cairn::block {
namespace {

// A request is carried out in pieces of at most this many bytes, which bounds the memory it takes.
constexpr uint64_t kSectorPiece = 1 << 20;
// Pieces from this size on go to the worker pool; below, the trip costs more than it saves.
constexpr uint64_t kCipherElsewhere = 32 << 10;

// Where the sector that holds `offset` begins on both sides.
CodecPosition sector_position(const Extent& extent, uint64_t offset, uint64_t sector_begin) {
  return {.guest_offset = sector_begin,
          .host_offset = extent.host_offset - (offset - sector_begin)};
}

}  // namespace

Engine::Outcome Engine::decode_sectors(const SectorCodec& codec, CodecPosition position,
                                       std::span<std::byte> data) {
  if (data.size() < kCipherElsewhere) {
    co_return codec.decode(position, data, data);
  }
  auto decode = [&codec, position, data] { return codec.decode(position, data, data); };
  co_return co_await io::WorkerPool::shared().run(decode);
}

Engine::Outcome Engine::encode_sectors(const SectorCodec& codec, CodecPosition position,
                                       std::span<const std::byte> plain,
                                       std::span<std::byte> stored) {
  if (plain.size() < kCipherElsewhere) {
    co_return codec.encode(position, plain, stored);
  }
  auto encode = [&codec, position, plain, stored] { return codec.encode(position, plain, stored); };
  co_return co_await io::WorkerPool::shared().run(encode);
}

// Reads and decodes whole sectors. What lies beyond the end of the child was never written and
// counts as zeroes before it is decoded, as a hole in the child does.
Engine::Outcome Engine::read_sectors(Extent extent, CodecPosition position,
                                     std::span<std::byte> sectors) {
  const uint64_t child_length = extent.child->child_->length();
  const uint64_t present =
      position.host_offset < child_length
          ? std::min<uint64_t>(sectors.size(), child_length - position.host_offset)
          : 0;
  std::ranges::fill(sectors.subspan(present), std::byte{0});
  if (present > 0) {
    io::IoVector stored(sectors.first(present));
    Result<void> result = co_await read(*extent.child, position.host_offset, std::move(stored));
    if (!result) {
      co_return result;
    }
  }
  co_return co_await decode_sectors(*extent.sectors, position, sectors);
}

Engine::Outcome Engine::read_encrypted(Extent extent, uint64_t offset, io::IoVector data) {
  const uint64_t sector = extent.sectors->sector_size();
  const uint64_t length = data.size();
  io::AlignedBuffer bounce;
  for (uint64_t done = 0; done < length;) {
    const uint64_t at = offset + done;
    const uint64_t begin = align_down(at, sector);
    const uint64_t end = std::min(align_up(offset + length, sector), begin + kSectorPiece);
    const uint64_t piece = std::min(length - done, end - at);
    const CodecPosition position = sector_position(extent, offset, begin);
    const io::IoVector target = data.slice(done, piece);
    Result<void> result;
    if (begin == at && end == at + piece && target.segments().size() == 1) {
      const iovec whole = target.segments().front();
      const std::span memory(static_cast<std::byte*>(whole.iov_base), whole.iov_len);
      result = co_await read_sectors(extent, position, memory);
    } else {
      if (bounce.empty()) {
        auto buffer = io::AlignedBuffer::allocate(end - begin);
        if (!buffer) {
          co_return pass(buffer);
        }
        bounce = std::move(*buffer);
      }
      const std::span<std::byte> sectors = bounce.span().first(end - begin);
      result = co_await read_sectors(extent, position, sectors);
      target.copy_from(0, sectors.subspan(at - begin, piece));
    }
    if (!result) {
      co_return result;
    }
    done += piece;
  }
  co_return Result<void>{};
}

// `sectors` is filled with what they are to hold from `offset` on, of the sectors around which the
// first and the last are read where only a part of them changes.
Engine::Outcome Engine::read_edges(Extent extent, uint64_t offset, uint64_t begin, uint64_t at,
                                   uint64_t length, std::span<std::byte> sectors) {
  const uint64_t sector = extent.sectors->sector_size();
  const uint64_t last = sectors.size() - sector;
  const bool head = begin < at;
  const bool tail = at + length < begin + sectors.size();
  if (head || (tail && last == 0)) {
    const CodecPosition position = sector_position(extent, offset, begin);
    Result<void> result = co_await read_sectors(extent, position, sectors.first(sector));
    if (!result) {
      co_return result;
    }
  }
  if (tail && last > 0) {
    const CodecPosition position = sector_position(extent, offset, begin + last);
    co_return co_await read_sectors(extent, position, sectors.subspan(last));
  }
  co_return Result<void>{};
}

Engine::Outcome Engine::write_encrypted(Node& node, Extent extent, uint64_t offset,
                                        io::IoVector data, WriteFlags flags) {
  const uint64_t sector = extent.sectors->sector_size();
  const uint64_t length = data.size();
  const uint64_t area = align_down(offset, sector);
  const uint64_t area_end = align_up(offset + length, sector);
  io::RangeLock::Guard lock;
  if (is_aligned(offset | length, sector)) {
    lock = co_await node.alignment_.lock_shared(area, area_end - area);
  } else {
    lock = co_await node.alignment_.lock_exclusive(area, area_end - area);
  }
  auto bounce = io::AlignedBuffer::allocate(std::min(area_end - area, kSectorPiece));
  if (!bounce) {
    co_return pass(bounce);
  }
  for (uint64_t done = 0; done < length;) {
    const uint64_t at = offset + done;
    const uint64_t begin = align_down(at, sector);
    const uint64_t end = std::min(area_end, begin + kSectorPiece);
    const uint64_t piece = std::min(length - done, end - at);
    const std::span<std::byte> sectors = bounce->span().first(end - begin);
    const io::IoVector source = data.slice(done, piece);
    std::span<const std::byte> plain = sectors;
    Result<void> result;
    if (piece == sectors.size() && source.segments().size() == 1) {
      const iovec whole = source.segments().front();
      plain = {static_cast<const std::byte*>(whole.iov_base), whole.iov_len};
    } else {
      result = co_await read_edges(extent, offset, begin, at, piece, sectors);
      source.copy_to(0, sectors.subspan(at - begin, piece));
    }
    const CodecPosition position = sector_position(extent, offset, begin);
    if (result) {
      result = co_await encode_sectors(*extent.sectors, position, plain, sectors);
    }
    if (result) {
      io::IoVector stored(sectors);
      result = co_await write(*extent.child, position.host_offset, std::move(stored), flags);
    }
    if (!result) {
      co_return result;
    }
    done += piece;
  }
  co_return Result<void>{};
}

// A write to an extent whose mapping need not change.
Engine::Outcome Engine::write_in_place(Node& node, Extent extent, uint64_t offset,
                                       io::IoVector data, WriteFlags flags) {
  if (extent.sectors != nullptr) {
    co_return co_await write_encrypted(node, extent, offset, std::move(data), flags);
  }
  co_return co_await write(*extent.child, extent.host_offset, std::move(data), flags);
}

// New space, encrypted: whole units, from `position` on.
Engine::Outcome Engine::write_new_sectors(WritePlan plan, CodecPosition position,
                                          io::IoVector data) {
  auto stored = io::AlignedBuffer::allocate(data.size());
  if (!stored) {
    co_return pass(stored);
  }
  if (!is_aligned(data.size(), plan.sectors->sector_size())) {
    co_return fail(EIO, "Internal error: a part of an encrypted sector was to be written");
  }
  data.copy_to(0, stored->span());
  const std::span<std::byte> sectors = stored->span();
  Result<void> result = co_await encode_sectors(*plan.sectors, position, sectors, sectors);
  if (!result) {
    co_return result;
  }
  io::IoVector piece(sectors);
  co_return co_await write(*plan.child, position.host_offset, std::move(piece), WriteFlags{});
}

}  // namespace cairn::block
