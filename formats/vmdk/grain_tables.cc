#include "formats/vmdk/grain_tables.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"

namespace cairn::vmdk {

namespace {

constexpr uint64_t kEntriesInSector = kSector / kTableEntryBytes;
// Sectors of a descriptor that are taken for one; what a header says may be anything.
constexpr uint64_t kLargestDescriptor = 1 << 20;

bool overlap(uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length) {
  return a < b + b_length && b < a + a_length;
}

}  // namespace

GrainTables::GrainTables(block::Edge& file, const SparseHeader& header)
    : file_(file), header_(header), directory_entries_(directory_entries(header)) {}

// Entries beyond the end of the file are zero.
io::Task<Result<std::vector<uint32_t>>> GrainTables::read_entries(uint64_t offset, uint64_t count) {
  const uint64_t length = file_.length();
  const uint64_t wanted = count * kTableEntryBytes;
  const uint64_t present = offset < length ? std::min(wanted, length - offset) : 0;
  std::vector<std::byte> bytes(align_up(present, kTableEntryBytes));
  if (present > 0) {
    Result<void> read = co_await file_.read(offset, bytes.data(), present);
    if (!read) {
      co_return pass(read);
    }
  }
  std::vector<uint32_t> entries(bytes.size() / kTableEntryBytes);
  for (uint64_t i = 0; i < entries.size(); ++i) {
    entries[i] = load_le<uint32_t>(bytes.data() + i * kTableEntryBytes);
  }
  co_return entries;
}

io::Task<Result<void>> GrainTables::load(bool writable) {
  constexpr uint64_t kLargest = static_cast<uint64_t>(INT64_MAX) / kSector;
  const std::string& name = file_.node().filename();
  if (header_.directory_offset > kLargest - kMostDirectoryEntries) {
    co_return fail_errno(EIO, "Could not read l1 table from extent '{}'", name);
  }
  auto directory = co_await read_entries(header_.directory_offset * kSector, directory_entries_);
  if (!directory) {
    co_return fail_errno(directory.error().code(), "Could not read l1 table from extent '{}'",
                         name);
  }
  directory_ = std::move(*directory);
  const bool redundant = header_.has(kFlagRedundantTable);
  if (redundant && header_.redundant_directory_offset > kLargest - kMostDirectoryEntries) {
    co_return fail_errno(EIO, "Could not read l1 backup table from extent '{}'", name);
  }
  if (redundant) {
    auto second =
        co_await read_entries(header_.redundant_directory_offset * kSector, directory_entries_);
    if (!second) {
      co_return fail_errno(second.error().code(), "Could not read l1 backup table from extent '{}'",
                           name);
    }
    redundant_ = std::move(*second);
  }
  co_return writable ? prepare_writing() : Result<void>{};
}

// Where tables lie over each other, a change of one would change another.
Result<void> GrainTables::prepare_writing() {
  const uint64_t table_sectors = div_round_up(header_.table_entries * kTableEntryBytes, kSector);
  const std::string& name = file_.node().filename();
  for (uint64_t i = 0; i < directory_.size(); ++i) {
    if (present(i) && header_.has(kFlagRedundantTable) &&
        (i >= redundant_.size() || redundant_[i] == 0)) {
      return fail(EINVAL, "The redundant grain directory of '{}' lacks table {}", name, i);
    }
  }
  // The largest of where anything of it ends.
  const uint64_t descriptor_end =
      (header_.descriptor_offset + std::min(header_.descriptor_size, kLargestDescriptor)) &
      INT64_MAX;
  const uint64_t directory_sectors = div_round_up(directory_entries_ * kTableEntryBytes, kSector);
  metadata_end_ = std::max(descriptor_end, header_.directory_offset + directory_sectors);
  if (header_.has(kFlagRedundantTable)) {
    metadata_end_ = std::max(metadata_end_, header_.redundant_directory_offset + directory_sectors);
  }
  table_places_.assign(directory_.begin(), directory_.end());
  table_places_.insert(table_places_.end(), redundant_.begin(), redundant_.end());
  std::erase(table_places_, 0);
  std::ranges::sort(table_places_);
  if (!table_places_.empty()) {
    metadata_end_ = std::max(metadata_end_, table_places_.back() + table_sectors);
  }
  metadata_end_ = checked_mul(metadata_end_, kSector).value_or(UINT64_MAX);
  for (uint64_t i = 1; i < table_places_.size(); ++i) {
    if (table_places_[i] - table_places_[i - 1] < table_sectors) {
      return fail(EINVAL, "Grain tables of '{}' overlap at sector {}", name, table_places_[i]);
    }
  }
  return {};
}

GrainTable* GrainTables::find(uint64_t index) {
  if (!present(index)) {
    return &absent_;
  }
  const auto found = tables_.find(index);
  if (found == tables_.end()) {
    return nullptr;
  }
  found->second->used = ++clock_;
  return found->second.get();
}

io::Task<Result<std::shared_ptr<GrainTable>>> GrainTables::fetch(uint64_t index) {
  // One at a time: what is read is in the cache before anybody can change it there.
  const auto lock = co_await reading_.lock();
  if (find(index) != nullptr) {
    const auto found = tables_.find(index);
    co_return found != tables_.end() ? found->second : std::make_shared<GrainTable>();
  }
  auto entries =
      co_await read_entries(uint64_t{directory_[index]} * kSector, header_.table_entries);
  if (!entries) {
    co_return pass(entries);
  }
  auto table = std::make_shared<GrainTable>();
  table->index = index;
  table->entries = std::move(*entries);
  table->entries.resize(header_.table_entries);
  table->used = ++clock_;
  make_room();
  tables_.emplace(index, table);
  co_return table;
}

void GrainTables::make_room() {
  const uint64_t most = std::max<uint64_t>(
      kMostChanged * 2, kCacheBytes / (header_.table_entries * kTableEntryBytes));
  if (tables_.size() < most) {
    return;
  }
  auto oldest = tables_.end();
  for (auto at = tables_.begin(); at != tables_.end(); ++at) {
    const bool idle = at->second.use_count() == 1 && at->second->changed == 0;
    if (idle && (oldest == tables_.end() || at->second->used < oldest->second->used)) {
      oldest = at;
    }
  }
  if (oldest != tables_.end()) {
    tables_.erase(oldest);
  }
}

void GrainTables::set(GrainTable& table, uint64_t entry, uint32_t value) {
  table.entries[entry] = value;
  changed_tables_ += table.changed == 0 ? 1 : 0;
  table.changed |= uint64_t{1} << (entry / kEntriesInSector);
}

std::vector<GrainTables::Run> GrainTables::take_changes() {
  std::vector<Run> runs;
  for (const auto& [index, table] : tables_) {
    if (table->changed == 0) {
      continue;
    }
    Run& run = runs.emplace_back(table, std::exchange(table->changed, 0),
                                 std::vector<std::byte>(table->bytes()));
    for (uint64_t i = 0; i < table->entries.size(); ++i) {
      store_le<uint32_t>(run.bytes.data() + i * kTableEntryBytes, table->entries[i]);
    }
  }
  std::ranges::sort(runs, {}, [](const Run& run) { return run.table->index; });
  changed_tables_ = 0;
  return runs;
}

// The sectors of a run, adjacent ones together.
io::Task<Result<void>> GrainTables::write_run(const Run& run, uint64_t place) {
  const uint64_t sectors = div_round_up(run.bytes.size(), kSector);
  for (uint64_t first = 0; first < sectors;) {
    uint64_t end = first;
    while (end < sectors && (run.sectors >> end & 1) != 0) {
      ++end;
    }
    if (end > first) {
      const uint64_t begin = first * kSector;
      const uint64_t length = std::min<uint64_t>(end * kSector, run.bytes.size()) - begin;
      Result<void> written =
          co_await file_.write(place * kSector + begin, run.bytes.data() + begin, length);
      if (!written) {
        co_return written;
      }
    }
    first = end + 1;
  }
  co_return Result<void>{};
}

io::Task<Result<void>> GrainTables::write_runs(const std::vector<Run>& runs) {
  Result<void> result = co_await file_.flush();
  for (const Run& run : runs) {
    const uint64_t index = run.table->index;
    if (result) {
      result = co_await write_run(run, directory_[index]);
    }
    if (result && !redundant_.empty()) {
      result = co_await write_run(run, redundant_[index]);
    }
  }
  if (result && !runs.empty()) {
    result = co_await file_.flush();
  }
  co_return result;
}

io::Task<Result<void>> GrainTables::write_out() {
  const auto lock = co_await writeout_.lock();
  const std::vector<Run> runs = take_changes();
  writing_ = runs.size();
  Result<void> result = co_await write_runs(runs);
  writing_ = 0;
  if (!result) {
    for (const Run& run : runs) {
      changed_tables_ += run.table->changed == 0 ? 1 : 0;
      run.table->changed |= run.sectors;
    }
  }
  co_return result;
}

Result<void> GrainTables::check_data_place(uint64_t offset, uint64_t length) const {
  const uint64_t directory_bytes = directory_entries_ * kTableEntryBytes;
  const uint64_t table_bytes = header_.table_entries * kTableEntryBytes;
  if (offset >= metadata_end_) {
    return {};
  }
  bool hit = offset < kDescriptorOffset;
  hit = hit || overlap(offset, length, header_.descriptor_offset * kSector & INT64_MAX,
                       std::min(header_.descriptor_size, kLargestDescriptor) * kSector);
  hit = hit || overlap(offset, length, header_.directory_offset * kSector, directory_bytes);
  hit = hit ||
        (!redundant_.empty() &&
         overlap(offset, length, header_.redundant_directory_offset * kSector, directory_bytes));
  // The first table that ends behind the range's begin.
  const uint64_t before = offset >= table_bytes ? (offset - table_bytes) / kSector : 0;
  auto at = std::ranges::lower_bound(table_places_, before);
  for (; !hit && at != table_places_.end() && *at * kSector < offset + length; ++at) {
    hit = overlap(offset, length, *at * kSector, table_bytes);
  }
  if (hit) {
    return fail(EIO, "A grain of '{}' at {} lies in the extent's own metadata",
                file_.node().filename(), offset);
  }
  return {};
}

}  // namespace cairn::vmdk
