// BitmapKeeper: reading the bitmaps of an image. Every number is hostile: what a table names has to
// lie in the file, no cluster is read more often than the file has clusters, and what all bitmaps
// together may take is bounded before anything is read for them.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/dirty_bitmap.h"
#include "block/graph.h"
#include "block/node.h"
#include "formats/qcow2/bitmap_keeper.h"
#include "formats/qcow2/page_cache.h"

namespace cairn::qcow2 {

using block::DirtyBitmap;

io::Task<Result<void>> BitmapKeeper::load(bool with_bits) {
  image_.set_before_first_write(
      [this]() -> io::Task<Result<void>> { return before_first_write(); });
  tracking_ = Tracking::kUndecided;
  image_.keep_autoclear(kAutoclearWriteIntent);
  if (image_.header().extension(ExtensionType::kBitmaps) == nullptr) {
    image_.keep_autoclear(kAutoclearBitmaps);
    co_return Result<void>{};
  }
  if ((image_.header().autoclear_features & kAutoclearBitmaps) == 0) {
    image_.node().graph().report_warning(
        "a program lacking bitmap support modified this file, so all bitmaps are now considered "
        "inconsistent",
        "Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix.");
    image_.keep_autoclear(kAutoclearBitmaps);
    co_return Result<void>{};
  }
  const auto extension = parse_bitmaps_extension(image_.header());
  if (!extension) {
    co_return std::unexpected(extension.error());
  }
  Result<void> result = co_await load_directory(**extension);
  if (!result) {
    co_return result;
  }
  if (with_bits) {
    result = co_await load_map();
    if (!result) {
      co_return result;
    }
  }
  Budget budget{.clusters = div_round_up(image_.file().length(), image_.cluster_size())};
  bool recovered = false;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    result = co_await load_bitmap(i, with_bits, budget);
    if (!result) {
      co_return result;
    }
    recovered = recovered || (recoverable(i) && usable(i));
  }
  if (!recovered) {
    intent_.forget();
  }
  image_.keep_autoclear(kAutoclearBitmaps);
  co_return result;
}

// The last sector may be cut short.
bool BitmapKeeper::in_file(uint64_t offset, uint64_t length) const {
  const uint64_t end = align_up(image_.file().length(), kSectorSize);
  return offset < end && length <= end - offset;
}

io::Task<Result<void>> BitmapKeeper::load_directory(BitmapsExtension extension) {
  constexpr std::string_view kContext = "Could not read the bitmap directory: ";
  if (!in_file(extension.directory_offset, extension.directory_size)) {
    co_return fail(EINVAL, "{}Invalid argument", kContext);
  }
  std::vector<std::byte> bytes(extension.directory_size);
  Result<void> read = co_await read_metadata(image_.file(), extension.directory_offset, bytes);
  if (!read) {
    co_return pass(read, kContext);
  }
  auto entries =
      parse_bitmap_directory(bytes, extension.bitmaps, image_.header().size, image_.cluster_size());
  if (!entries) {
    co_return pass(entries);
  }
  // Protected since the image was opened, as all that its header names.
  entries_ = std::move(*entries);
  directory_ = std::move(bytes);
  directory_offset_ = extension.directory_offset;
  co_return Result<void>{};
}

io::Task<Result<void>> BitmapKeeper::load_bitmap(std::size_t index, bool with_bits,
                                                 Budget& budget) {
  const BitmapEntry& entry = entries_[index];
  if (this->bitmap(index) != nullptr) {
    co_return Result<void>{};  // the image is reopened, and the node has it
  }
  auto bitmap = std::make_unique<DirtyBitmap>(entry.name, uint32_t{1} << entry.granularity_bits,
                                              align_up(image_.header().size, kSectorSize));
  bitmap->set_persistent(true);
  bitmap->set_read_only(!image_.open_for_writing());
  bitmap->set_enabled((entry.flags & BitmapEntry::kAuto) != 0);
  Result<void> result;
  if (recoverable(index)) {
    result = co_await recover_bits(index, *bitmap, budget);
  } else if (entry.usable()) {
    result = co_await load_bits(index, with_bits, *bitmap, budget);
  } else {
    bitmap->set_inconsistent();
  }
  if (result) {
    image_.node().add_bitmap(std::move(bitmap));
  }
  co_return result;
}

io::Task<Result<void>> BitmapKeeper::load_bits(std::size_t index, bool with_bits,
                                               DirtyBitmap& bitmap, Budget& budget) {
  const BitmapEntry& entry = entries_[index];
  if (entry.table_entries > budget.table_entries) {
    co_return fail(EFBIG, "The bitmaps of the image are too large");
  }
  budget.table_entries -= entry.table_entries;
  const Result<Table> table = co_await read_table(entry);
  if (!table) {
    co_return std::unexpected(table.error());
  }
  if (with_bits) {
    Result<void> read = co_await read_bits(*table, bitmap, budget);
    if (!read) {
      co_return pass(read, fmt::format("Could not read bitmap '{}' from the image: ", entry.name));
    }
  }
  co_return Result<void>{};
}

// Whether the header and the map say that a bitmap in use is to be believed.
bool BitmapKeeper::recoverable(std::size_t index) const {
  const std::vector<bool>& vouched = intent_.head().vouched;
  BitmapEntry stored = entries_[index];
  stored.flags &= ~BitmapEntry::kInUse;
  return intent_.active() && entries_[index].in_use() && stored.usable() &&
         index < vouched.size() && vouched[index];
}

// What makes no sense is not believed after all.
io::Task<Result<void>> BitmapKeeper::recover_bits(std::size_t index, DirtyBitmap& bitmap,
                                                  Budget& budget) {
  Result<void> result = co_await load_bits(index, true, bitmap, budget);
  if (!result) {
    if (result.error().code() != EINVAL && result.error().code() != EFBIG) {
      co_return result;
    }
    bitmap.set_inconsistent();
    co_return Result<void>{};
  }
  intent_.mark_into(bitmap);
  if (image_.open_for_writing()) {
    image_.node().graph().report_warning(
        fmt::format("the image of node '{}' was not closed in order: bitmap '{}' was recovered, "
                    "with {} bytes marked",
                    image_.node().name(), bitmap.name(), bitmap.count()),
        "");
  }
  co_return result;
}

// The map is there, in a place of its own, while the header says so.
io::Task<Result<void>> BitmapKeeper::load_map() {
  const auto place =
      WriteIntent::place(directory_offset_, directory_.size(), image_.cluster_size());
  if (!place || (image_.header().autoclear_features & kAutoclearWriteIntent) == 0) {
    co_return Result<void>{};
  }
  const Result<bool> loaded = co_await intent_.load(*place);
  if (!loaded) {
    co_return std::unexpected(loaded.error());
  }
  co_return Result<void>{};
}

io::Task<Result<BitmapKeeper::Table>> BitmapKeeper::read_table(const BitmapEntry& entry) {
  const std::string context =
      fmt::format("Could not read bitmap_table table from image for bitmap '{}': ", entry.name);
  const uint64_t length = entry.table_entries * sizeof(uint64_t);
  const bool writable = image_.open_for_writing();
  if (!in_file(entry.table_offset, length) ||
      (writable && image_.guard().protects_structure(entry.table_offset, length))) {
    co_return fail(EINVAL, "{}Invalid argument", context);
  }
  std::vector<std::byte> bytes(length);
  Result<void> read = co_await read_metadata(image_.file(), entry.table_offset, bytes);
  if (!read) {
    co_return pass(read, context);
  }
  Table table(entry.table_entries);
  for (std::size_t i = 0; i < table.size(); ++i) {
    const auto value = load_be<uint64_t>(bytes.data() + i * sizeof(uint64_t));
    const uint64_t place = value & kEntryOffsetMask;
    const bool sound = (value & kBitmapTableReserved) == 0 &&
                       is_aligned(place, image_.cluster_size()) && place < image_.file().length() &&
                       (place == 0 || (value & kBitmapTableAllOnes) == 0);
    if (!sound) {
      co_return fail(EINVAL, "{}Invalid argument", context);
    }
    table[i] = value;
  }
  co_return table;
}

io::Task<Result<void>> BitmapKeeper::read_bits(const Table& table, DirtyBitmap& bitmap,
                                               Budget& budget) {
  if (std::ranges::all_of(table, [](uint64_t value) { return value == 0; })) {
    co_return Result<void>{};
  }
  const uint64_t chunks = div_round_up(bitmap.bits().size(), block::SparseBits::kChunkBits);
  const auto data = static_cast<uint64_t>(
      std::ranges::count_if(table, [](uint64_t value) { return value > kBitmapTableAllOnes; }));
  if (chunks > budget.chunks || data > budget.clusters) {
    co_return fail(EFBIG, "The bitmaps of the image are too large");
  }
  budget.chunks -= chunks;
  budget.clusters -= data;
  const uint64_t bits_in_cluster = image_.cluster_size() * 8;
  std::vector<std::byte> cluster(image_.cluster_size());
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (table[i] == kBitmapTableAllOnes) {
      bitmap.bits().set(i * bits_in_cluster, bits_in_cluster);
    } else if (table[i] != 0) {
      Result<void> read = co_await read_metadata(image_.file(), table[i], cluster);
      if (!read) {
        co_return read;
      }
      bitmap.bits().merge_bytes(i * bits_in_cluster, cluster);
    }
  }
  co_return Result<void>{};
}

}  // namespace cairn::qcow2
