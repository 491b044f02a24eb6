#include "formats/qcow2/snapshot_table.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/page_cache.h"

namespace cairn::qcow2 {

namespace {

// The fields of every entry, then those of the extra data that are known.
constexpr uint64_t kFixed = 40;
constexpr uint32_t kKnownExtra = 24;
constexpr uint32_t kMaxNameLength = UINT16_MAX;
// Other readers allow four times as much. It is held in memory, several times while it changes.
constexpr uint64_t kMostTableBytes = kMaxSnapshotTableBytes / 4;
constexpr uint64_t kNoIcount = UINT64_MAX;

// Reads a table piece by piece from front to back; most entries are far shorter than a piece.
class TableReader {
 public:
  explicit TableReader(block::Edge& file) : file_(file) {}

  // Bytes that stay valid until the next call.
  io::Task<Result<std::span<const std::byte>>> read(uint64_t offset, uint64_t length) {
    if (offset < begin_ || offset + length > begin_ + window_.size()) {
      window_.resize(std::max(kPiece, length));
      begin_ = offset;
      Result<void> result = co_await read_metadata(file_, offset, window_);
      if (!result) {
        window_.clear();
        co_return pass(result);
      }
    }
    co_return std::span<const std::byte>(window_).subspan(offset - begin_, length);
  }

 private:
  static constexpr uint64_t kPiece = 16 << 10;

  block::Edge& file_;
  uint64_t begin_ = 0;
  std::vector<std::byte> window_;
};

std::string to_text(std::span<const std::byte> bytes) {
  std::string text(bytes.size(), '\0');
  std::transform(bytes.begin(), bytes.end(), text.begin(),
                 [](std::byte byte) { return static_cast<char>(byte); });
  return text;
}

void append(std::vector<std::byte>& out, std::string_view text) {
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  out.insert(out.end(), bytes, bytes + text.size());
}

SnapshotEntry parse_fixed(const std::byte* raw, uint64_t disk_size) {
  SnapshotEntry entry;
  entry.l1_offset = load_be<uint64_t>(raw);
  entry.l1_entries = load_be<uint32_t>(raw + 8);
  entry.date_seconds = load_be<uint32_t>(raw + 16);
  entry.date_nanoseconds = load_be<uint32_t>(raw + 20);
  entry.vm_clock_nanoseconds = load_be<uint64_t>(raw + 24);
  entry.vm_state_size = load_be<uint32_t>(raw + 32);
  entry.disk_size = disk_size;
  entry.extra_length = load_be<uint32_t>(raw + 36);
  return entry;
}

void parse_extra(std::span<const std::byte> extra, SnapshotEntry& entry) {
  if (extra.size() >= 8) {
    entry.vm_state_size = load_be<uint64_t>(extra.data());
  }
  if (extra.size() >= 16) {
    entry.disk_size = load_be<uint64_t>(extra.data() + 8);
  }
  if (extra.size() >= kKnownExtra) {
    const auto icount = load_be<uint64_t>(extra.data() + 16);
    if (icount != kNoIcount) {
      entry.icount = icount;
    }
    entry.unknown.assign(extra.begin() + kKnownExtra, extra.end());
  }
}

}  // namespace

io::Task<Result<std::vector<SnapshotEntry>>> read_snapshot_table(block::Edge& file,
                                                                 const Header& header,
                                                                 ExcessExtra excess) {
  std::vector<SnapshotEntry> entries;
  TableReader table(file);
  uint64_t at = header.snapshots_offset;
  for (uint32_t i = 0; i < header.snapshot_count; ++i) {
    Result<std::span<const std::byte>> fixed = co_await table.read(at, kFixed);
    if (!fixed) {
      co_return pass(fixed, "Could not read snapshots: ");
    }
    const std::byte* const raw = fixed->data();
    SnapshotEntry entry = parse_fixed(raw, header.size);
    const uint64_t id_length = load_be<uint16_t>(raw + 12);
    const uint64_t name_length = load_be<uint16_t>(raw + 14);
    if (entry.extra_length > SnapshotEntry::kMaxExtra && excess == ExcessExtra::kRefuse) {
      co_return std::unexpected(
          Error(EFBIG, fmt::format("Too much extra metadata in snapshot table entry {}", i))
              .with_hint("You can force-remove this extra metadata with qemu-img check -r all"));
    }
    entry.length = align_up(kFixed + entry.extra_length + id_length + name_length, 8);
    const uint64_t kept_extra = std::min(entry.extra_length, SnapshotEntry::kMaxExtra);
    if (at + entry.length - header.snapshots_offset > kMostTableBytes) {
      co_return fail(EFBIG, "Snapshot table is too big");
    }
    auto extra = co_await table.read(at + kFixed, kept_extra);
    if (!extra) {
      co_return pass(extra, "Could not read snapshots: ");
    }
    parse_extra(*extra, entry);
    auto names = co_await table.read(at + kFixed + entry.extra_length, id_length + name_length);
    if (!names) {
      co_return pass(names, "Could not read snapshots: ");
    }
    entry.id = to_text(names->first(id_length));
    entry.name = to_text(names->last(name_length));
    at += entry.length;
    entries.push_back(std::move(entry));
  }
  co_return entries;
}

io::Task<Result<void>> SnapshotTable::load(block::Edge& file, const Header& header) {
  auto entries = co_await read_snapshot_table(file, header);
  if (!entries) {
    co_return pass(entries);
  }
  entries_ = std::move(*entries);
  length_on_disk_ = 0;
  for (const SnapshotEntry& entry : entries_) {
    length_on_disk_ += entry.length;
  }
  co_return Result<void>{};
}

std::vector<block::Snapshot> SnapshotTable::list() const {
  std::vector<block::Snapshot> list;
  list.reserve(entries_.size());
  for (const SnapshotEntry& entry : entries_) {
    list.push_back(entry);
  }
  return list;
}

std::size_t SnapshotTable::find(const std::string& id) const {
  const auto found =
      std::ranges::find_if(entries_, [&id](const auto& entry) { return entry.id == id; });
  return static_cast<std::size_t>(found - entries_.begin());
}

std::string SnapshotTable::next_id() const {
  uint64_t greatest = 0;
  for (const SnapshotEntry& entry : entries_) {
    const std::string& id = entry.id;
    uint64_t number = 0;
    const auto [end, error] = std::from_chars(id.data(), id.data() + id.size(), number);
    // The image may hold anything; a number that can not be counted on from is as good as none.
    if (error == std::errc() && number < UINT64_MAX) {
      greatest = std::max(greatest, number);
    }
  }
  return std::to_string(greatest + 1);
}

Result<std::vector<std::byte>> SnapshotTable::serialize() const {
  if (entries_.size() > kMaxSnapshots) {
    return fail(EFBIG, "An image has at most {} snapshots", uint64_t{kMaxSnapshots});
  }
  std::vector<std::byte> table;
  for (const SnapshotEntry& entry : entries_) {
    if (entry.id.size() > kMaxNameLength || entry.name.size() > kMaxNameLength) {
      return fail(EINVAL, "The name of a snapshot has at most {} bytes", uint32_t{kMaxNameLength});
    }
    std::vector<std::byte> bytes(kFixed + kKnownExtra);
    std::byte* at = bytes.data();
    store_be<uint64_t>(at, entry.l1_offset);
    store_be<uint32_t>(at + 8, entry.l1_entries);
    store_be<uint16_t>(at + 12, static_cast<uint16_t>(entry.id.size()));
    store_be<uint16_t>(at + 14, static_cast<uint16_t>(entry.name.size()));
    store_be<uint32_t>(at + 16, static_cast<uint32_t>(entry.date_seconds));
    store_be<uint32_t>(at + 20, entry.date_nanoseconds);
    store_be<uint64_t>(at + 24, entry.vm_clock_nanoseconds);
    // Readers take the larger field, which version 3 demands.
    const bool small = entry.vm_state_size <= UINT32_MAX;
    store_be<uint32_t>(at + 32, small ? static_cast<uint32_t>(entry.vm_state_size) : 0);
    store_be<uint32_t>(at + 36, kKnownExtra + static_cast<uint32_t>(entry.unknown.size()));
    store_be<uint64_t>(at + 40, entry.vm_state_size);
    store_be<uint64_t>(at + 48, entry.disk_size);
    store_be<uint64_t>(at + 56, entry.icount.value_or(kNoIcount));
    bytes.insert(bytes.end(), entry.unknown.begin(), entry.unknown.end());
    append(bytes, entry.id);
    append(bytes, entry.name);
    bytes.resize(align_up(bytes.size(), 8));
    table.insert(table.end(), bytes.begin(), bytes.end());
    if (table.size() > kMostTableBytes) {
      return fail(EFBIG, "Snapshot table is too big");
    }
  }
  return table;
}

}  // namespace cairn::qcow2
