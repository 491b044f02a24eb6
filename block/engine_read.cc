// Reads of translating nodes.
#include <algorithm>
#include <cerrno>

#include "block/codec.h"
#include "block/engine.h"
#include "io/worker_pool.h"

namespace cairn::block {
namespace {

// Units from this size on are decoded on the worker pool; below, the trip costs more than it saves.
constexpr uint64_t kDecodeElsewhere = 32 << 10;

}  // namespace

io::Task<Result<Extent>> Engine::map(Node& node, uint64_t offset, uint64_t length) {
  Extent extent;
  if (node.translating_->try_map(offset, length, extent)) {
    co_return extent;
  }
  Result<Extent> mapped = co_await node.translating_->map(offset, length);
  if (mapped && (mapped->length == 0 || mapped->length > length)) {
    co_return fail(EIO, "Internal error: '{}' mapped {} bytes of {}", node.name(), mapped->length,
                   length);
  }
  co_return mapped;
}

Engine::Outcome Engine::read_translated(Node& node, uint64_t offset, io::IoVector data) {
  uint64_t done = 0;
  while (done < data.size()) {
    const Result<Extent> extent = co_await map(node, offset + done, data.size() - done);
    if (!extent) {
      co_return std::unexpected(extent.error());
    }
    io::IoVector piece = data.slice(done, extent->length);
    Result<void> result = co_await read_extent(node, *extent, offset + done, std::move(piece));
    if (!result) {
      co_return result;
    }
    done += extent->length;
  }
  co_return Result<void>{};
}

Engine::Outcome Engine::read_extent(Node& node, Extent extent, uint64_t offset, io::IoVector data) {
  switch (extent.kind) {
    case Extent::Kind::kHole:
      co_return co_await read_hole(node, offset, std::move(data));
    case Extent::Kind::kZero:
      data.fill(std::byte{0});
      co_return Result<void>{};
    case Extent::Kind::kData:
      break;
  }
  if (extent.codec != nullptr) {
    co_return co_await read_coded(node, extent, offset, std::move(data));
  }
  if (extent.sectors != nullptr) {
    co_return co_await read_encrypted(extent, offset, std::move(data));
  }
  // The last piece of an image may have no end in its file: what is missing is zeroes.
  const uint64_t child_length = extent.child->child_->length();
  if (extent.host_offset + data.size() > child_length) {
    const uint64_t present =
        extent.host_offset < child_length ? child_length - extent.host_offset : 0;
    data.fill(std::byte{0}, present, data.size() - present);
    if (present == 0) {
      co_return Result<void>{};
    }
    data = data.slice(0, present);
  }
  co_return co_await read(*extent.child, extent.host_offset, std::move(data));
}

// Holes read as the backing node, and as zeroes beyond its end.
Engine::Outcome Engine::read_hole(Node& node, uint64_t offset, io::IoVector data) {
  const uint64_t below = node.backing_ != nullptr ? node.backing_->child_->length() : 0;
  const uint64_t from_backing =
      offset < below ? std::min<uint64_t>(data.size(), below - offset) : 0;
  if (from_backing < data.size()) {
    io::IoVector rest = data.slice(from_backing, data.size() - from_backing);
    rest.fill(std::byte{0});
  }
  if (from_backing == 0) {
    co_return Result<void>{};
  }
  io::IoVector piece = data.slice(0, from_backing);
  co_return co_await read(*node.backing_, offset, std::move(piece));
}

// Decodes a whole unit, and hands out the part that was asked for. Between the translation and the
// unit's entry into the cache nothing suspends, so that a change of the mapping finds it there.
Engine::Outcome Engine::read_coded(Node& node, Extent extent, uint64_t offset, io::IoVector data) {
  const uint64_t begin = offset - extent.unit_offset;
  const uint64_t length = data.size();
  if (length == extent.unit_length && data.segments().size() == 1) {
    // Everything is wanted: no need to keep it, nor to copy it.
    const iovec whole = data.segments().front();
    const std::span target(static_cast<std::byte*>(whole.iov_base), whole.iov_len);
    co_return co_await decode_unit(extent, target);
  }
  std::shared_ptr<Unit> unit = node.units_.find(extent.host_offset, extent.stored_length);
  if (unit == nullptr) {
    auto bytes = io::AlignedBuffer::allocate(extent.unit_length);
    if (!bytes) {
      co_return pass(bytes);
    }
    unit = std::make_shared<Unit>();
    unit->host_offset = extent.host_offset;
    unit->stored_length = extent.stored_length;
    unit->bytes = std::move(*bytes);
    node.units_.insert(unit);
    unit->outcome = co_await decode_unit(extent, unit->bytes.span());
    unit->decoded.set();
    if (!unit->outcome) {
      node.units_.remove(*unit);
    }
  } else {
    co_await unit->decoded.wait();
  }
  if (unit->outcome) {
    data.copy_from(0, unit->bytes.span().subspan(begin, length));
  }
  co_return unit->outcome;
}

Engine::Outcome Engine::decode_unit(Extent extent, std::span<std::byte> unit) {
  // The stored form may be said to go on beyond the end of the file; what is missing is zeroes.
  const uint64_t child_length = extent.child->child_->length();
  if (extent.host_offset >= child_length) {
    co_return fail(EIO, "Compressed data at {} lies beyond the end of '{}'", extent.host_offset,
                   extent.child->child_->filename());
  }
  auto stored = io::AlignedBuffer::allocate(extent.stored_length);
  if (!stored) {
    co_return pass(stored);
  }
  const uint64_t present = std::min(extent.stored_length, child_length - extent.host_offset);
  std::ranges::fill(stored->span().subspan(present), std::byte{0});
  io::IoVector piece(stored->data(), present);
  Result<void> result = co_await read(*extent.child, extent.host_offset, std::move(piece));
  if (!result) {
    co_return result;
  }
  const CodecPosition position{.guest_offset = extent.unit_offset,
                               .host_offset = extent.host_offset};
  const std::span<const std::byte> from = stored->span();
  if (extent.unit_length < kDecodeElsewhere) {
    co_return extent.codec->decode(position, from, unit);
  }
  const Codec* codec = extent.codec;
  auto decode = [codec, position, from, unit] { return codec->decode(position, from, unit); };
  co_return co_await io::WorkerPool::shared().run(decode);
}

}  // namespace cairn::block
