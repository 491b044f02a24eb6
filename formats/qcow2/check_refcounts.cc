// The stored reference counts, compared with the references and repaired; how a repair ends.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/page_cache.h"
#include "formats/qcow2/refcount_rebuild.h"
#include "formats/qcow2/refcounts.h"

namespace cairn::qcow2 {

namespace {

// An image can be made to contradict itself without end; nobody reads more than this.
constexpr uint64_t kMaxFindings = 10'000'000;

// So many clusters behind the end of the file nothing is looked for.
constexpr uint64_t kFarAway = 1 << 20;

}  // namespace

io::Task<Result<void>> Checker::read_refcount_table() {
  const uint64_t bytes_per_cluster = geometry_.cluster_size();
  refcount_table_.reserve(header_.refcount_table_clusters * bytes_per_cluster /
                          kRefcountTableEntryBytes);
  std::vector<std::byte> bytes;
  for (uint32_t i = 0; i < header_.refcount_table_clusters; ++i) {
    Result<void> read = co_await read_table(header_.refcount_table_offset + i * bytes_per_cluster,
                                            bytes_per_cluster / kRefcountTableEntryBytes, bytes);
    if (!read) {
      co_return pass(read, "Could not read the refcount table: ");
    }
    for (std::size_t at = 0; at < bytes.size(); at += kRefcountTableEntryBytes) {
      refcount_table_.push_back(load_be<uint64_t>(bytes.data() + at));
    }
  }
  co_return Result<void>{};
}

Result<void> Checker::check_refcount_table() {
  const int64_t corruptions = result_.corruptions;
  const uint64_t length = header_.refcount_table_clusters * geometry_.cluster_size();
  auto counted = count(header_.refcount_table_offset, length);
  if (counted && result_.corruptions == corruptions) {
    const uint64_t first = header_.refcount_table_offset >> geometry_.cluster_bits;
    for (uint64_t i = 0; i < header_.refcount_table_clusters; ++i) {
      static_cast<void>(structure_.add(first + i));
    }
  }
  for (uint64_t i = 0; i < refcount_table_.size() && counted; ++i) {
    if (refcount_table_[i] != 0) {
      counted = check_block_place(i);
    }
  }
  structure_corruptions_ = result_.corruptions - corruptions;
  return counted;
}

Result<void> Checker::check_block_place(uint64_t index) {
  const uint64_t entry = refcount_table_[index];
  const uint64_t offset = entry & kRefcountTableOffsetMask;
  const uint64_t cluster = offset >> geometry_.cluster_bits;
  if ((entry & ~kRefcountTableOffsetMask) != 0) {
    corruption(fmt::format("ERROR refcount table entry {} has reserved bits set", index));
    unusable_ = true;
    return {};
  }
  if (!is_aligned(offset, geometry_.cluster_size())) {
    corruption(fmt::format(
        "ERROR refcount block {} is not cluster aligned; refcount table entry corrupted", index));
    unusable_ = true;
    return {};
  }
  const bool outside = cluster >= file_clusters_;
  if (outside && !options_.fix_errors) {
    corruption(fmt::format("ERROR refcount block {} is outside image", index));
    return {};
  }
  if (outside) {
    // It is dropped with the old structures. Until then it counts as a reference, if it is not so
    // far away that nobody can have meant it.
    report(fmt::format("Repairing refcount block {} is outside image", index));
    ++findings_;
    ++result_.corruptions_fixed;
    unusable_ = true;
    if (cluster - file_clusters_ >= kFarAway) {
      return {};
    }
    compare_end_ = std::max(compare_end_, cluster + 1);
  }
  const uint64_t references = references_.add(cluster);
  if (references == 0 || structure_.add(cluster) == 0) {
    return fail(ENOMEM, "The check would need more memory than it may use");
  }
  if (references != 1) {
    corruption(fmt::format("ERROR refcount block {} refcount={}", index, references));
    unusable_ = true;
  }
  return {};
}

// False when the table entry can not be right.
io::Task<Result<bool>> Checker::load_block(uint64_t index) {
  if (block_index_ == index) {
    co_return block_readable_;
  }
  block_index_ = index;
  const uint64_t offset = refcount_table_[index] & kRefcountTableOffsetMask;
  block_readable_ = is_aligned(offset, geometry_.cluster_size());
  if (!block_readable_) {
    unusable_ = true;
    std::string message =
        fmt::format("Refblock offset {:#x} unaligned (reftable index: {})", offset, index);
    // A repair stops at the first mark; one that was asked for once more knows what it is about.
    if (!repairing() || header_.has(kIncompatibleCorrupt)) {
      static_cast<void>(image_.damaged(std::move(message)));
    } else {
      static_cast<void>(co_await image_.corrupt(std::move(message)));
    }
    co_return false;
  }
  const uint64_t entries = geometry_.cluster_size() / sizeof(uint64_t);
  // Without a block all its counts are zero.
  Result<void> read = co_await read_table(offset == 0 ? UINT64_MAX : offset, entries, block_);
  if (!read) {
    block_index_.reset();
    co_return pass(read, "Could not read a refcount block: ");
  }
  co_return true;
}

Result<void> Checker::check_effort() const {
  if (findings_ > kMaxFindings) {
    return fail(EFBIG, "The check was given up after {} findings", kMaxFindings);
  }
  return {};
}

// Without `repair`, tells what differs; with it, makes the stored counts right as well, as far as
// the options go. The refcount structures must be usable then.
io::Task<Result<void>> Checker::compare(bool repair) {
  found_ = {};
  const uint64_t per_block = geometry_.refcount_block_entries();
  const uint64_t blocks =
      std::min<uint64_t>(refcount_table_.size(), div_round_up(compare_end_, per_block));
  for (uint64_t index = 0; index < blocks; ++index) {
    const uint64_t first = index * per_block;
    if ((refcount_table_[index] & kRefcountTableOffsetMask) == 0) {
      compare_unread(first, std::min(first + per_block, compare_end_));
    } else {
      Result<void> compared = co_await compare_block(index, repair);
      if (!compared) {
        co_return compared;
      }
    }
    if (auto bearable = check_effort(); !bearable) {
      co_return bearable;
    }
  }
  compare_unread(blocks * per_block, compare_end_);
  co_return check_effort();
}

// Clusters that no refcount block covers: their count is zero.
void Checker::compare_unread(uint64_t first, uint64_t end) {
  for (uint64_t cluster = references_.next(first); cluster < end && findings_ <= kMaxFindings;
       cluster = references_.next(cluster + 1)) {
    static_cast<void>(compare_cluster(cluster, 0, false));
  }
}

io::Task<Result<void>> Checker::compare_block(uint64_t index, bool repair) {
  const uint64_t per_block = geometry_.refcount_block_entries();
  const uint64_t first = index * per_block;
  const uint64_t end = std::min(first + per_block, compare_end_);
  const Result<bool> readable = co_await load_block(index);
  if (!readable) {
    co_return std::unexpected(readable.error());
  }
  Changes changes;
  for (uint64_t cluster = first; cluster < end && findings_ <= kMaxFindings; ++cluster) {
    if (!*readable) {
      ++findings_;
      ++found_.errors;
      report(fmt::format("Can't get refcount for cluster {}: Input/output error", cluster));
      continue;
    }
    const uint64_t stored = load_refcount(block_.data(), geometry_.refcount_order, cluster - first);
    const uint64_t wanted = compare_cluster(cluster, stored, repair);
    if (wanted != stored) {
      store_refcount(block_.data(), geometry_.refcount_order, cluster - first, wanted);
      const uint64_t at = ((cluster - first) << geometry_.refcount_order) / 8;
      changes.note(align_down(at, sizeof(uint64_t)));
    }
  }
  if (!changes.any()) {
    co_return Result<void>{};
  }
  // No other table leads to the block, or the structures would not be usable.
  const uint64_t sector = align_down(changes.begin, kSectorSize);
  const uint64_t length = align_up(changes.end, kSectorSize) - sector;
  changed_ = true;
  Result<void> written = co_await image_.file().write(
      (refcount_table_[index] & kRefcountTableOffsetMask) + sector, block_.data() + sector, length);
  if (!written) {
    block_index_.reset();
    co_return pass(written, "Could not write a refcount block: ");
  }
  co_return written;
}

// What is to be stored.
uint64_t Checker::compare_cluster(uint64_t cluster, uint64_t stored, bool repair) {
  using Flag = ReferenceCounts::Flag;
  const uint64_t references = std::min(references_.get(cluster), refcount_max_);
  if (stored == 0 && references == 0) {
    return 0;
  }
  used_end_ = std::max(used_end_, cluster + 1);
  uint64_t wanted = stored;
  if (stored != references) {
    const bool leak = stored > references;
    const bool fix = repair && (leak ? options_.fix_leaks : options_.fix_errors);
    ++findings_;
    report(fmt::format("{} cluster {} refcount={} reference={}",
                       fix ? "Repairing" : (leak ? "Leaked" : "ERROR"), cluster, stored,
                       references));
    if (fix) {
      wanted = references;
      ++(leak ? result_.leaks_fixed : result_.corruptions_fixed);
    } else {
      ++(leak ? found_.leaks : found_.corruptions);
      // With a used cluster counted as free there is no knowing what else was put there.
      unusable_ = unusable_ || stored == 0;
    }
  }
  flags_differ_ =
      flags_differ_ || references_.has(cluster, wanted == 1 ? Flag::kUncopied : Flag::kCopied);
  return wanted;
}

io::Task<Result<void>> Checker::repair_refcounts() {
  if (unusable_) {
    if (!options_.fix_errors) {
      report("ERROR need to rebuild refcount structures");
      co_return fail(EIO, "Input/output error");
    }
    co_return co_await rebuild_refcounts();
  }
  if (found_.corruptions == 0 && found_.leaks == 0) {
    co_return Result<void>{};
  }
  flags_differ_ = false;
  Result<void> compared = co_await compare(true);
  if (compared && changed_) {
    // A COPIED flag says that a count is one, so the count must be so first.
    compared = co_await image_.file().flush();
  }
  co_return compared;
}

io::Task<Result<void>> Checker::rebuild_refcounts() {
  report("Rebuilding refcount structure");
  if (image_.broken()) {
    if (options_.complain) {
      options_.complain(Error(EIO, "ERROR writing refblock: Input/output error"));
    }
    co_return fail(EIO, "Input/output error");
  }
  Result<void> built = co_await replace_structures();
  if (!built) {
    co_return built;
  }
  flags_differ_ = true;  // nearly every flag may be
  for (uint64_t cluster = structure_.next(0); cluster < compare_end_;
       cluster = structure_.next(cluster + 1)) {
    if (const uint64_t dropped = structure_.get(cluster); dropped != 0) {
      const uint64_t references = references_.get(cluster);
      report(fmt::format("Repairing cluster {} refcount={} reference={}", cluster,
                         std::min(references, refcount_max_), references - dropped));
    }
  }
  result_.corruptions -= structure_corruptions_;
  result_.corruptions_fixed += structure_corruptions_ + found_.corruptions;
  result_.leaks_fixed += found_.leaks;
  found_ = {};
  co_return Result<void>{};
}

// The counts in memory must be right. One write of the header switches to all that is new.
io::Task<Result<void>> Checker::replace_structures() {
  const Result<std::vector<std::byte>> snapshots = retire_snapshot_table();
  if (!snapshots) {
    co_return std::unexpected(snapshots.error());
  }
  RefcountRebuild rebuild(image_, {references_, structure_, beyond_}, *snapshots);
  Result<void> built = co_await rebuild.run();
  if (!built) {
    co_return pass(built, "Could not rebuild the refcount structure: ");
  }
  result_.corruptions_fixed += std::exchange(repaired_snapshots_, 0);
  changed_ = true;
  rebuilt_ = true;
  file_length_ = image_.file().length();
  file_clusters_ = div_round_up(file_length_, geometry_.cluster_size());
  refcount_table_ = rebuild.table();
  block_index_.reset();
  metadata_collected_ = false;
  co_return Result<void>{};
}

// The last step: what the header says of the image's state.
io::Task<Result<void>> Checker::finish_repair() {
  if (changed_) {
    Result<void> flushed = co_await image_.file().flush();
    if (!flushed) {
      co_return flushed;
    }
  }
  uint64_t cleared = 0;
  if (found_.corruptions == 0 && result_.check_errors == 0) {
    cleared |= kIncompatibleDirty;  // the counts can be trusted
    if (result_.corruptions == 0) {
      cleared |= kIncompatibleCorrupt;
    }
  }
  if ((header_.incompatible_features & cleared) == 0) {
    co_return Result<void>{};
  }
  std::function<void(Header&)> clear = [cleared](Header& header) {
    header.incompatible_features &= ~cleared;
  };
  changed_ = true;
  co_return co_await image_.update_header(std::move(clear));
}

// Nothing when it can not be told.
io::Task<Result<std::optional<uint64_t>>> Checker::stored_count(uint64_t cluster) {
  const uint64_t per_block = geometry_.refcount_block_entries();
  const uint64_t index = cluster / per_block;
  if (index >= refcount_table_.size()) {
    co_return std::optional<uint64_t>(0);
  }
  const Result<bool> readable = co_await load_block(index);
  if (!readable) {
    co_return std::unexpected(readable.error());
  }
  if (!*readable) {
    co_return std::optional<uint64_t>();
  }
  co_return std::optional<uint64_t>(
      load_refcount(block_.data(), geometry_.refcount_order, cluster % per_block));
}

}  // namespace cairn::qcow2
