#include "exports/vhost_user/block_device.h"

#include <linux/virtio_blk.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/sector.h"
#include "exports/vhost_user/protocol.h"

namespace cairn::vhost_user {
namespace {

constexpr std::size_t kHeaderBytes = 16;
constexpr std::size_t kRangeBytes = 16;
// Pieces of a request: what fits into a queue of 128 beside header and status.
constexpr uint32_t kMostSegments = 126;
// A piece has at most so many bytes, and a request what all pieces have: zeroes are filled in
// without a pause, and nobody else is to wait for long.
constexpr uint32_t kLargestSegment = 1 << 20;
constexpr uint64_t kLargestTransfer = uint64_t{128} << 20;
// What one request discards or zeroes at most, in sectors: it is not interrupted.
constexpr uint32_t kMostSectors = 32768;
constexpr std::string_view kIdentity = "vhost_user_blk";

// Where the fields of the configuration space are.
constexpr std::size_t kWriteCacheAt = 32;

struct Range {
  uint64_t offset = 0;
  uint64_t length = 0;
  bool unmap = false;
};

// Nothing for a sector that no request may begin with.
std::optional<uint64_t> offset_of(uint64_t sector, uint32_t block_size) {
  const auto offset = checked_mul(sector, kSector);
  return offset && is_aligned(*offset, block_size) ? offset : std::nullopt;
}

// A range to be discarded or zeroed; its status when it is none.
// There is one in a request, as was offered.
std::expected<Range, uint8_t> parse_range(const io::IoVector& out, uint32_t type,
                                          uint32_t block_size) {
  std::array<std::byte, kRangeBytes> bytes;
  if (out.size() != bytes.size()) {
    const bool several = out.size() % bytes.size() == 0 && !out.empty();
    return std::unexpected(
        static_cast<uint8_t>(several ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR));
  }
  out.copy_to(0, bytes);
  const auto sector = load_le<uint64_t>(bytes.data());
  const auto sectors = load_le<uint32_t>(bytes.data() + 8);
  const auto flags = load_le<uint32_t>(bytes.data() + 12);
  const uint32_t known = type == VIRTIO_BLK_T_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
  if ((flags & ~known) != 0) {
    return std::unexpected(uint8_t{VIRTIO_BLK_S_UNSUPP});
  }
  const auto offset = offset_of(sector, block_size);
  if (!offset || sectors > kMostSectors) {
    return std::unexpected(uint8_t{VIRTIO_BLK_S_IOERR});
  }
  return Range{.offset = *offset, .length = sectors * kSector, .unmap = flags != 0};
}

bool is_transfer(const io::IoVector& data) {
  return data.size() % kSector == 0 && data.size() <= kLargestTransfer;
}

uint8_t status_of(const Result<void>& result) {
  return result ? VIRTIO_BLK_S_OK : VIRTIO_BLK_S_IOERR;
}

}  // namespace

BlockDevice::BlockDevice(block::Edge& root, DeviceSettings settings)
    : root_(root),
      settings_(settings),
      node_(root, home_, away()),
      cache_enabled_(!settings.writethrough) {}

uint64_t BlockDevice::features() const {
  uint64_t features =
      bit(VIRTIO_BLK_F_SIZE_MAX) | bit(VIRTIO_BLK_F_SEG_MAX) | bit(VIRTIO_BLK_F_BLK_SIZE) |
      bit(VIRTIO_BLK_F_FLUSH) | bit(VIRTIO_BLK_F_TOPOLOGY) | bit(VIRTIO_BLK_F_CONFIG_WCE) |
      bit(VIRTIO_BLK_F_MQ) | bit(VIRTIO_BLK_F_DISCARD) | bit(VIRTIO_BLK_F_WRITE_ZEROES);
  if (!settings_.writable) {
    features |= bit(VIRTIO_BLK_F_RO);
  }
  return features;
}

uint64_t BlockDevice::capacity() const { return root_.length() / kSector; }

BlockDevice::Config BlockDevice::config() const {
  // struct virtio_blk_config, whose members need not be aligned.
  Config config{};
  const auto put = [&config](std::size_t at, auto value) { store_le(config.data() + at, value); };
  put(0, capacity());
  put(8, kLargestSegment);
  put(12, kMostSegments);
  put(20, settings_.block_size);
  put(26, uint16_t{1});  // smallest and best transfer, in blocks
  put(28, uint32_t{1});
  put(kWriteCacheAt, static_cast<uint8_t>(cache_enabled_ ? 1 : 0));
  put(34, settings_.queues);
  put(36, kMostSectors);
  put(40, uint32_t{1});
  put(44, static_cast<uint32_t>(settings_.block_size / kSector));
  put(48, kMostSectors);
  put(52, uint32_t{1});
  put(56, uint8_t{1});  // zeroing may give space back
  return config;
}

Result<void> BlockDevice::set_config(uint32_t offset, std::span<const std::byte> bytes,
                                     bool migration) {
  if (!migration && (offset != kWriteCacheAt || bytes.size() != 1)) {
    return fail(EINVAL, "bytes {} to {} of the configuration can not be changed", offset,
                offset + bytes.size());
  }
  if (offset <= kWriteCacheAt && kWriteCacheAt - offset < bytes.size()) {
    cache_enabled_ = bytes[kWriteCacheAt - offset] != std::byte{0} && !settings_.writethrough;
  }
  return {};
}

bool BlockDevice::durable_writes() const {
  // A driver that can not flush, or has chosen so, counts on it (section 5.2.6.2).
  return settings_.writethrough || (features_ & bit(VIRTIO_BLK_F_FLUSH)) == 0 ||
         ((features_ & bit(VIRTIO_BLK_F_CONFIG_WCE)) != 0 && !cache_enabled_);
}

Result<void> BlockDevice::check(const Chain& chain) {
  if (chain.readable.size() < kHeaderBytes || chain.writable.empty()) {
    return fail(EPROTO, "a request has {} bytes of header and {} for its status",
                chain.readable.size(), chain.writable.size());
  }
  if (chain.writable.size() > UINT32_MAX) {
    return fail(EPROTO, "a request has room for {} bytes", chain.writable.size());
  }
  return {};
}

io::Task<uint32_t> BlockDevice::execute(Chain& chain) {
  std::array<std::byte, kHeaderBytes> bytes;
  chain.readable.copy_to(0, bytes);
  const Header header{.type = load_le<uint32_t>(bytes.data()),
                      .sector = load_le<uint64_t>(bytes.data() + 8)};
  const uint64_t room = chain.writable.size() - 1;
  auto work =
      carry_out(header, chain.readable.slice(kHeaderBytes, chain.readable.size() - kHeaderBytes),
                chain.writable.slice(0, room));
  const uint8_t status = co_await std::move(work);
  chain.writable.fill(std::byte{status}, room, 1);
  // Data of a request that failed is whatever was there; only the status counts. What follows the
  // identity is left alone.
  const uint64_t data =
      header.type == VIRTIO_BLK_T_GET_ID ? std::min<uint64_t>(room, VIRTIO_BLK_ID_BYTES) : room;
  const bool good = status == VIRTIO_BLK_S_OK || room == 0;
  co_return static_cast<uint32_t>(good ? data + (data == room ? 1 : 0) : 0);
}

io::Task<uint8_t> BlockDevice::carry_out(Header header, io::IoVector out, io::IoVector in) {
  const std::optional<uint64_t> offset = offset_of(header.sector, settings_.block_size);
  Result<void> result;
  switch (header.type & ~VIRTIO_BLK_T_BARRIER) {
    case VIRTIO_BLK_T_IN: {
      if (!offset || !is_transfer(in)) {
        co_return VIRTIO_BLK_S_IOERR;
      }
      auto reading = node_.read(*offset, std::move(in));
      result = co_await std::move(reading);
      co_return status_of(result);
    }
    case VIRTIO_BLK_T_OUT: {
      if (!settings_.writable || !offset || !is_transfer(out)) {
        co_return VIRTIO_BLK_S_IOERR;
      }
      auto writing = node_.write(*offset, std::move(out), {.fua = durable_writes()});
      result = co_await std::move(writing);
      co_return status_of(result);
    }
    case VIRTIO_BLK_T_FLUSH: {
      auto flushing = node_.flush();
      result = co_await std::move(flushing);
      co_return status_of(result);
    }
    case VIRTIO_BLK_T_GET_ID:
      co_return identify(in);
    case VIRTIO_BLK_T_DISCARD:
    case VIRTIO_BLK_T_WRITE_ZEROES: {
      auto changing = discard_or_zero(header.type, std::move(out));
      co_return co_await std::move(changing);
    }
    default:
      co_return VIRTIO_BLK_S_UNSUPP;
  }
}

io::Task<uint8_t> BlockDevice::discard_or_zero(uint32_t type, io::IoVector out) {
  if (!settings_.writable) {
    co_return VIRTIO_BLK_S_IOERR;
  }
  const auto range = parse_range(out, type, settings_.block_size);
  if (!range) {
    co_return range.error();
  }
  auto work = type == VIRTIO_BLK_T_DISCARD
                  ? node_.discard(range->offset, range->length)
                  : node_.write_zeroes(range->offset, range->length,
                                       {.fua = durable_writes(), .may_unmap = range->unmap});
  const Result<void> result = co_await std::move(work);
  co_return status_of(result);
}

uint8_t BlockDevice::identify(const io::IoVector& in) const {
  std::array<std::byte, VIRTIO_BLK_ID_BYTES> identity{};
  std::ranges::copy(std::as_bytes(std::span(kIdentity)), identity.begin());
  const std::size_t length = std::min<std::size_t>(in.size(), identity.size());
  in.copy_from(0, std::span(identity).first(length));
  return VIRTIO_BLK_S_OK;
}

}  // namespace cairn::vhost_user
