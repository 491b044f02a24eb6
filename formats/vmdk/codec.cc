#include "formats/vmdk/codec.h"

#include <algorithm>
#include <cerrno>

#include <zlib.h>

#include "base/bytes.h"
#include "base/sector.h"
#include "formats/vmdk/layout.h"

namespace cairn::vmdk {

namespace {

std::unexpected<Error> bad_grain(const block::CodecPosition& position) {
  return fail(EINVAL, "The compressed grain for guest offset {} at host offset {} is damaged",
              position.guest_offset, position.host_offset);
}

class GrainInflater {
 public:
  GrainInflater() : ready_(inflateInit(&stream_) == Z_OK) {}
  GrainInflater(const GrainInflater&) = delete;
  GrainInflater& operator=(const GrainInflater&) = delete;
  ~GrainInflater() {
    if (ready_) {
      inflateEnd(&stream_);
    }
  }

  bool run(std::span<const std::byte> stored, std::span<std::byte> unit) {
    if (!ready_ || inflateReset(&stream_) != Z_OK) {
      return false;
    }
    // zlib's interface predates const; it does not write to its input.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(stored.data()));
    stream_.avail_in = static_cast<uInt>(stored.size());
    stream_.next_out = reinterpret_cast<Bytef*>(unit.data());
    stream_.avail_out = static_cast<uInt>(unit.size());
    const int result = inflate(&stream_, Z_FINISH);
    if (result != Z_STREAM_END && stream_.avail_out != 0) {
      return false;
    }
    std::ranges::fill(unit.last(stream_.avail_out), std::byte{0});
    return result == Z_STREAM_END || result == Z_BUF_ERROR || result == Z_OK;
  }

 private:
  z_stream stream_{};
  bool ready_;
};

}  // namespace

Result<void> GrainCodec::decode(block::CodecPosition position, std::span<const std::byte> stored,
                                std::span<std::byte> unit) const {
  if (markers_) {
    if (stored.size() < kMarkerBytes) {
      return bad_grain(position);
    }
    const uint64_t length = load_le<uint32_t>(stored.data() + sizeof(uint64_t));
    stored = stored.subspan(kMarkerBytes);
    stored = stored.first(std::min<uint64_t>(length, stored.size()));
  }
  thread_local GrainInflater inflater;
  if (stored.empty() || !inflater.run(stored, unit)) {
    return bad_grain(position);
  }
  return {};
}

Result<std::size_t> GrainCodec::encode(std::span<const std::byte> unit,
                                       std::span<std::byte> stored) const {
  return encode_at(0, unit, stored);
}

Result<std::size_t> GrainCodec::encode_at(uint64_t guest_offset, std::span<const std::byte> unit,
                                          std::span<std::byte> stored) const {
  const uint64_t prefix = markers_ ? kMarkerBytes : 0;
  if (stored.size() <= prefix) {
    return std::size_t{0};
  }
  uLongf length = stored.size() - prefix;
  const int result = compress(reinterpret_cast<Bytef*>(stored.data() + prefix), &length,
                              reinterpret_cast<const Bytef*>(unit.data()), unit.size());
  if (result == Z_MEM_ERROR) {
    return fail(ENOMEM, "There is no memory to compress with");
  }
  const std::size_t end = align_up(prefix + length, kSector);
  if (result != Z_OK || end > stored.size()) {
    return std::size_t{0};
  }
  if (markers_) {
    store_le<uint64_t>(stored.data(), guest_offset / kSector);
    store_le<uint32_t>(stored.data() + sizeof(uint64_t), static_cast<uint32_t>(length));
  }
  std::ranges::fill(stored.subspan(prefix + length, end - prefix - length), std::byte{0});
  return end;
}

std::size_t GrainCodec::longest_stored(std::size_t unit_length) const {
  return align_up(kMarkerBytes + compressBound(unit_length), kSector);
}

}  // namespace cairn::vmdk
