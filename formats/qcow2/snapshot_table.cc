#include "formats/qcow2/snapshot_table.h"

#include <algorithm>
#include <cerrno>
#include <span>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/page_cache.h"

namespace cairn::qcow2 {

namespace {

constexpr uint64_t kFixed = 40;

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

}  // namespace

io::Task<Result<std::vector<SnapshotEntry>>> read_snapshot_table(block::Edge& file,
                                                                 const Header& header) {
  std::vector<SnapshotEntry> entries;
  TableReader table(file);
  uint64_t at = header.snapshots_offset;
  for (uint32_t i = 0; i < header.snapshot_count; ++i) {
    Result<std::span<const std::byte>> fixed = co_await table.read(at, kFixed);
    if (!fixed) {
      co_return pass(fixed, "Could not read snapshots: ");
    }
    const std::byte* const raw = fixed->data();
    SnapshotEntry entry{.l1_offset = load_be<uint64_t>(raw),
                        .l1_entries = load_be<uint32_t>(raw + 8),
                        .extra_length = load_be<uint32_t>(raw + 36)};
    const uint64_t id_length = load_be<uint16_t>(raw + 12);
    const uint64_t name_length = load_be<uint16_t>(raw + 14);
    if (entry.extra_length > SnapshotEntry::kMaxExtra) {
      co_return std::unexpected(
          Error(EFBIG, fmt::format("Too much extra metadata in snapshot table entry {}", i))
              .with_hint("You can force-remove this extra metadata with qemu-img check -r all"));
    }
    entry.length = align_up(kFixed + entry.extra_length + id_length + name_length, 8);
    if (at + entry.length - header.snapshots_offset > kMaxSnapshotTableBytes) {
      co_return fail(EFBIG, "Snapshot table is too big");
    }
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

}  // namespace cairn::qcow2
