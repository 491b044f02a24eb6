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
    co_return co_await read_coded(extent, offset, std::move(data));
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

// Decodes whole units, and hands out the part that was asked for.
Engine::Outcome Engine::read_coded(Extent extent, uint64_t offset, io::IoVector data) {
  auto stored = io::AlignedBuffer::allocate(extent.stored_length);
  auto unit = io::AlignedBuffer::allocate(extent.unit_length);
  if (!stored || !unit) {
    co_return fail(ENOMEM, "Out of memory for a compressed cluster of {} bytes",
                   extent.unit_length);
  }
  // The stored form may be said to go on beyond the end of the file; what is missing is zeroes.
  const uint64_t child_length = extent.child->child_->length();
  if (extent.host_offset >= child_length) {
    co_return fail(EIO, "Compressed data at {} lies beyond the end of '{}'", extent.host_offset,
                   extent.child->child_->filename());
  }
  const uint64_t present = std::min(extent.stored_length, child_length - extent.host_offset);
  std::fill(stored->data() + present, stored->data() + extent.stored_length, std::byte{0});
  io::IoVector piece(stored->data(), present);
  Result<void> result = co_await read(*extent.child, extent.host_offset, std::move(piece));
  if (!result) {
    co_return result;
  }
  const CodecPosition position{.guest_offset = extent.unit_offset,
                               .host_offset = extent.host_offset};
  const auto from = std::span<const std::byte>(stored->data(), extent.stored_length);
  const auto to = std::span<std::byte>(unit->data(), extent.unit_length);
  if (extent.unit_length >= kDecodeElsewhere) {
    const Codec* codec = extent.codec;
    auto decode = [codec, position, from, to] { return codec->decode(position, from, to); };
    result = co_await io::WorkerPool::shared().run(decode);
  } else {
    result = extent.codec->decode(position, from, to);
  }
  if (result) {
    data.copy_from(0, to.subspan(offset - extent.unit_offset, data.size()));
  }
  co_return result;
}

}  // namespace cairn::block
