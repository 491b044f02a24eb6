#include "formats/vmdk/codec.h"

#include <algorithm>
#include <cerrno>

#include "base/bytes.h"
#include "base/sector.h"
#include "formats/deflate/deflate.h"
#include "formats/vmdk/layout.h"

namespace cairn::vmdk {

namespace {

std::unexpected<Error> bad_grain(const block::CodecPosition& position) {
  return fail(EINVAL, "The compressed grain for guest offset {} at host offset {} is damaged",
              position.guest_offset, position.host_offset);
}

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
  const auto length = deflate::inflate(deflate::Wrapping::kZlib, stored, unit);
  if (!length) {
    return bad_grain(position);
  }
  std::ranges::fill(unit.subspan(*length), std::byte{0});
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
  const auto made =
      deflate::deflate({.wrapping = deflate::Wrapping::kZlib}, unit, stored.subspan(prefix));
  if (!made) {
    return made;
  }
  const std::size_t length = *made;
  const std::size_t end = align_up(prefix + length, kSector);
  if (length == 0 || end > stored.size()) {
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
  return align_up(kMarkerBytes + deflate::longest(unit_length), kSector);
}

}  // namespace cairn::vmdk
