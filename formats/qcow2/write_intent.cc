#include "formats/qcow2/write_intent.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/bytes.h"
#include "block/dirty_bitmap.h"
#include "block/node.h"
#include "formats/qcow2/layout.h"
#include "formats/qcow2/page_cache.h"

namespace cairn::qcow2 {

namespace {

constexpr uint64_t kIntentMagic = 0x436169726e57494d;  // "CairnWIM"
constexpr uint32_t kIntentVersion = 1;
constexpr std::size_t kVouchedAt = 64;
constexpr std::size_t kChecksumAt = 56;
// Small disks have this many groups; larger ones groups of at most this size, as long as there is
// room for their bits.
constexpr uint64_t kFewGroups = 1024;
constexpr uint32_t kUsualGroupBits = 20;

// FNV-1a: to tell a head from anything else that may lie there, not to withstand anybody.
uint64_t checksum(std::span<const std::byte> bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const bool skipped = i >= kChecksumAt && i < kChecksumAt + sizeof hash;
    hash ^= skipped ? 0 : std::to_integer<uint64_t>(bytes[i]);
    hash *= 0x100000001b3;
  }
  return hash;
}

uint32_t group_bits_for(uint64_t disk_size, uint64_t capacity) {
  uint32_t bits = IntentHead::kLeastGroupBits;
  while (bits < kUsualGroupBits && (disk_size >> bits) > kFewGroups) {
    ++bits;
  }
  while (div_round_up(disk_size, uint64_t{1} << bits) > capacity) {
    ++bits;
  }
  return bits;
}

}  // namespace

std::array<std::byte, IntentHead::kSize> IntentHead::serialize() const {
  std::array<std::byte, kSize> bytes{};
  store_be(bytes.data(), kIntentMagic);
  store_be(bytes.data() + 8, kIntentVersion);
  store_be(bytes.data() + 12, group_bits);
  store_be(bytes.data() + 16, sectors);
  store_be(bytes.data() + 20, static_cast<uint32_t>(vouched.size()));
  store_be(bytes.data() + 24, directory_offset);
  for (std::size_t i = 0; i < vouched.size(); ++i) {
    if (vouched[i]) {
      bytes[kVouchedAt + i / 8] |= static_cast<std::byte>(1U << (i % 8));
    }
  }
  store_be(bytes.data() + kChecksumAt, checksum(bytes));
  return bytes;
}

std::optional<IntentHead> IntentHead::parse(std::span<const std::byte, kSize> bytes) {
  const std::byte* const raw = bytes.data();
  if (load_be<uint64_t>(raw) != kIntentMagic || load_be<uint32_t>(raw + 8) != kIntentVersion ||
      load_be<uint64_t>(raw + kChecksumAt) != checksum(bytes)) {
    return std::nullopt;
  }
  IntentHead head{.directory_offset = load_be<uint64_t>(raw + 24),
                  .group_bits = load_be<uint32_t>(raw + 12),
                  .sectors = load_be<uint32_t>(raw + 16),
                  .vouched = {}};
  const auto entries = load_be<uint32_t>(raw + 20);
  if (entries > kMostEntries || head.group_bits < kLeastGroupBits ||
      head.group_bits > kMostGroupBits || head.sectors == 0 || head.sectors > kMostSectors) {
    return std::nullopt;
  }
  head.vouched.resize(entries);
  for (std::size_t i = 0; i < entries; ++i) {
    head.vouched[i] = (std::to_integer<unsigned>(raw[kVouchedAt + i / 8]) >> (i % 8) & 1U) != 0;
  }
  return head;
}

std::optional<WriteIntent::Place> WriteIntent::place(uint64_t directory_offset,
                                                     uint64_t directory_length,
                                                     uint64_t cluster_size) {
  const uint64_t used = align_up(directory_length, kSector);
  const uint64_t end = align_up(std::max<uint64_t>(directory_length, 1), cluster_size);
  const uint64_t free_sectors = (end - used) / kSector;
  if (directory_offset == 0 || free_sectors < 2) {
    return std::nullopt;
  }
  const auto sectors =
      static_cast<uint32_t>(std::min<uint64_t>(free_sectors - 1, IntentHead::kMostSectors));
  return Place{.directory_offset = directory_offset,
               .offset = directory_offset + end - (sectors + 1) * uint64_t{kSector},
               .sectors = sectors};
}

IntentHead WriteIntent::make_head(Place place, std::vector<bool> vouched) const {
  vouched.resize(std::min(vouched.size(), IntentHead::kMostEntries));
  const uint64_t capacity = uint64_t{place.sectors} * kSector * 8;
  return {.directory_offset = place.directory_offset,
          .group_bits = group_bits_for(image_.header().size, capacity),
          .sectors = place.sectors,
          .vouched = std::move(vouched)};
}

void WriteIntent::start_map(Place place, IntentHead head, Bits bits) {
  place_ = place;
  head_ = std::move(head);
  groups_ = bits.size() * 8;
  map_ = {.ready = bits, .wanted = bits, .held = Bits(bits.size())};
  on_disk_ = std::move(bits);
  on_disk_unknown_ = false;
  active_ = true;
}

io::Task<Result<bool>> WriteIntent::load(Place place) {
  const auto lock = co_await mutex_.lock();
  active_ = false;
  std::vector<std::byte> bytes((place.sectors + 1) * std::size_t{kSector});
  Result<void> read = co_await read_metadata(image_.file(), place.offset, bytes);
  if (!read) {
    co_return pass(read, "Could not read which parts of the disk have changed: ");
  }
  const std::span<const std::byte, IntentHead::kSize> tail{
      bytes.data() + bytes.size() - IntentHead::kSize, IntentHead::kSize};
  std::optional<IntentHead> head = IntentHead::parse(tail);
  if (!head || head->directory_offset != place.directory_offset || head->sectors != place.sectors) {
    co_return false;
  }
  bytes.resize(bytes.size() - IntentHead::kSize);
  start_map(place, std::move(*head), std::move(bytes));
  co_return true;
}

io::Task<Result<void>> WriteIntent::write_map(Place place, IntentHead head, Bits bits) {
  const auto tail = head.serialize();
  bits.insert(bits.end(), tail.begin(), tail.end());
  co_return co_await image_.file().write(place.offset, bits.data(), bits.size());
}

io::Task<Result<void>> WriteIntent::create(Place place, std::vector<bool> vouched, bool all) {
  const auto lock = co_await mutex_.lock();
  active_ = false;
  const IntentHead head = make_head(place, std::move(vouched));
  const Bits bits(place.sectors * std::size_t{kSector}, all ? std::byte{255} : std::byte{0});
  Result<void> written = co_await write_map(place, head, bits);
  if (written) {
    written = co_await image_.file().flush();
  }
  if (written) {
    start_map(place, head, bits);
  }
  co_return written;
}

io::Task<Result<void>> WriteIntent::vouch(std::vector<bool> vouched) {
  const auto lock = co_await mutex_.lock();
  vouched.resize(std::min(vouched.size(), IntentHead::kMostEntries));
  if (!active_ || vouched == head_.vouched) {
    co_return Result<void>{};
  }
  IntentHead head = head_;
  head.vouched = std::move(vouched);
  const auto bytes = head.serialize();
  const uint64_t at = place_.offset + uint64_t{place_.sectors} * kSector;
  Result<void> written = co_await image_.file().write(at, bytes.data(), bytes.size());
  if (written) {
    written = co_await image_.file().flush();
  }
  if (written) {
    head_ = std::move(head);
  }
  co_return written;
}

WriteIntent::Bits WriteIntent::all_bits() const {
  Bits bits = map_.wanted;
  for (std::size_t i = 0; i < bits.size(); ++i) {
    bits[i] |= map_.held[i] | map_.ready[i];
  }
  return bits;
}

io::Task<Result<void>> WriteIntent::write_copy(Place place, std::vector<bool> vouched, bool all) {
  new_head_ = make_head(place, std::move(vouched));
  new_bits_.assign(place.sectors * std::size_t{kSector},
                   all || !active_ ? std::byte{255} : std::byte{0});
  if (!all && active_) {
    const uint64_t last = new_bits_.size() * 8 - 1;
    const Bits old = all_bits();
    for (uint64_t i = 0; i < groups_; ++i) {
      if (test(old, i)) {
        const uint64_t begin = i << head_.group_bits;
        const uint64_t end = i + 1 < groups_ ? begin + (uint64_t{1} << head_.group_bits)
                                             : std::max(begin + 1, image_.header().size);
        const uint64_t to = std::min((end - 1) >> new_head_.group_bits, last);
        for (uint64_t g = std::min(begin >> new_head_.group_bits, last); g <= to; ++g) {
          set(new_bits_, g);
        }
      }
    }
  }
  new_place_ = place;
  co_return co_await write_map(place, new_head_, new_bits_);
}

void WriteIntent::moved() {
  start_map(*new_place_, std::move(new_head_), std::move(new_bits_));
  new_place_.reset();
}

void WriteIntent::expect(uint64_t offset, uint64_t length) {
  if (!active_ || length == 0) {
    return;
  }
  const uint64_t last = group(offset + length - 1);
  for (uint64_t at = group(offset); at <= last; ++at) {
    set(map_.wanted, at);
    if (test(map_.held, at)) {
      set(map_.ready, at);
    }
  }
}

io::Task<Result<void>> WriteIntent::cover(uint64_t offset, uint64_t length) {
  expect(offset, length);
  if (!active_ || length == 0 || covers(offset, length)) {
    co_return Result<void>{};
  }
  const auto lock = co_await mutex_.lock();
  // Whoever came first has written this as well, or a round has begun.
  expect(offset, length);
  if (!active_ || covers(offset, length)) {
    co_return Result<void>{};
  }
  Result<void> written = co_await write_bits(true);
  if (!written) {
    co_return pass(written, "Could not note which part of the disk is about to change: ");
  }
  co_return written;
}

// Writes the sectors that differ; `durable` ones may be relied on.
io::Task<Result<void>> WriteIntent::write_bits(bool durable) {
  const Bits wanted = map_.wanted;
  const Bits bits = all_bits();
  uint64_t begin = 0;
  uint64_t end = bits.size();
  if (!on_disk_unknown_) {
    begin = static_cast<uint64_t>(std::ranges::mismatch(bits, on_disk_).in1 - bits.begin());
    while (end > begin && bits[end - 1] == on_disk_[end - 1]) {
      --end;
    }
    begin = align_down(begin, kSector);
    end = align_up(end, kSector);
  }
  Result<void> written;
  if (begin < end) {
    on_disk_unknown_ = true;
    written = co_await image_.file().write(place_.offset + begin, bits.data() + begin, end - begin);
  }
  if (written && durable) {
    written = co_await image_.file().flush();
  }
  if (written) {
    on_disk_ = bits;
    on_disk_unknown_ = false;
  }
  if (written && durable) {
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      map_.ready[i] |= wanted[i];
    }
  }
  co_return written;
}

void WriteIntent::mark_into(block::DirtyBitmap& bitmap) const {
  const Bits bits = all_bits();
  for (uint64_t i = 0; i < groups_; ++i) {
    const uint64_t begin = i << head_.group_bits;
    if (test(bits, i) && begin >> head_.group_bits == i) {
      bitmap.mark(begin, i + 1 < groups_ ? uint64_t{1} << head_.group_bits : UINT64_MAX - begin);
    }
  }
}

io::Task<void> WriteIntent::begin_round() {
  const auto lock = co_await mutex_.lock();
  for (std::size_t i = 0; i < map_.ready.size(); ++i) {
    map_.held[i] |= map_.ready[i];
    map_.ready[i] = std::byte{0};
    map_.wanted[i] = std::byte{0};
  }
}

bool WriteIntent::drops(uint64_t offset, uint64_t end) const {
  if (!active_ || offset >= end) {
    return false;
  }
  const uint64_t last = group(end - 1);
  for (uint64_t at = group(offset); at <= last; ++at) {
    if (test(map_.held, at) && !test(map_.ready, at)) {
      return true;
    }
  }
  return false;
}

io::Task<Result<void>> WriteIntent::end_round(bool stored) {
  const auto lock = co_await mutex_.lock();
  for (std::size_t i = 0; i < map_.held.size(); ++i) {
    if (!stored) {
      map_.ready[i] |= map_.held[i];
      map_.wanted[i] |= map_.held[i];
    }
    map_.held[i] = std::byte{0};
  }
  Result<void> written;
  if (active_ && stored) {
    written = co_await write_bits(false);
  }
  co_return written;
}

}  // namespace cairn::qcow2
