// Changes: new grains, compressed grains, and grains that read as zeroes.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"
#include "block/graph.h"
#include "formats/vmdk/driver.h"

namespace cairn::vmdk {

namespace {

// Places are sector numbers of 32 bits.
constexpr uint64_t kLargestPlace = uint64_t{UINT32_MAX} * kSector;

}  // namespace

// What comes before any change: another content id, and room for changes of tables.
io::Task<Result<void>> VmdkDriver::prepare_change(VmdkExtent& extent) {
  if (!content_->changed()) {
    Result<void> changed = co_await content_->change();
    if (!changed) {
      co_return changed;
    }
  }
  if (extent.sparse() && extent.tables->pressed()) {
    co_return co_await extent.tables->write_out();
  }
  co_return Result<void>{};
}

io::Task<Result<std::shared_ptr<GrainTable>>> VmdkDriver::table_for_write(VmdkExtent& extent,
                                                                          uint64_t offset) {
  const uint64_t index = extent.table_index(offset);
  if (!extent.tables->present(index)) {
    co_return fail(EIO, "'{}' has no grain table for offset {}", extent.file->node().filename(),
                   offset);
  }
  co_return co_await extent.tables->fetch(index);
}

Result<uint64_t> VmdkDriver::take_space(VmdkExtent& extent, uint64_t bytes) {
  const uint64_t host = extent.next_free;
  if (host > kLargestPlace || bytes > kLargestPlace - host) {
    return fail(EFBIG, "'{}' can not hold more than {} bytes", extent.file->node().filename(),
                kLargestPlace);
  }
  extent.next_free += bytes;
  return host;
}

uint64_t VmdkDriver::open_ticket(Ticket ticket) {
  const auto free =
      std::ranges::find_if(tickets_, [](const Ticket& each) { return each.extent == nullptr; });
  const auto index = static_cast<uint64_t>(free - tickets_.begin());
  if (free == tickets_.end()) {
    tickets_.push_back(std::move(ticket));
  } else {
    *free = std::move(ticket);
  }
  return index + 1;
}

// Why a part of a grain can not be written to a stream.
io::Task<Result<block::WritePlan>> VmdkDriver::refuse_part(VmdkExtent& extent, uint64_t offset) {
  const auto table = co_await table_for_write(extent, offset);
  if (!table) {
    co_return std::unexpected(table.error());
  }
  if (extent.has_data((*table)->entries[extent.entry_index(offset)])) {
    co_return std::unexpected(refuse_again());
  }
  co_return fail(EINVAL, "Only whole grains of {} bytes can be written to '{}'", extent.grain,
                 extent.file->node().filename());
}

// A grain of a stream has data already.
Error VmdkDriver::refuse_again() const {
  std::string reason = fmt::format("Could not write to allocated cluster for {}", create_type_);
  node_->graph().report_failure(reason);
  return {EIO, std::move(reason)};
}

io::Task<Result<block::WritePlan>> VmdkDriver::begin_write(uint64_t offset, uint64_t length) {
  VmdkExtent& extent = extent_at(offset);
  if (extent.codec != nullptr) {
    co_return co_await refuse_part(extent, offset);
  }
  Result<void> prepared = co_await prepare_change(extent);
  if (!prepared) {
    co_return pass(prepared);
  }
  length = std::min(length, extent.end - offset);
  if (!extent.sparse()) {
    co_return block::WritePlan{.length = length,
                               .child = extent.file,
                               .host_offset = extent.flat_offset + (offset - extent.begin)};
  }
  const auto table = co_await table_for_write(extent, offset);
  if (!table) {
    co_return std::unexpected(table.error());
  }
  const auto& entries = (*table)->entries;
  const uint64_t first = extent.entry_index(offset);
  if (extent.has_data(entries[first])) {
    const block::Extent there = extent.map_grains(**table, offset, length);
    if (auto sound = extent.tables->check_data_place(there.host_offset, there.length); !sound) {
      co_return pass(sound);
    }
    co_return block::WritePlan{
        .length = there.length, .child = extent.file, .host_offset = there.host_offset};
  }
  const uint64_t begin = extent.grain_begin(offset);
  uint64_t grains = 1;
  while (begin + grains * extent.grain < offset + length && first + grains < entries.size() &&
         !extent.has_data(entries[first + grains])) {
    ++grains;
  }
  const Result<uint64_t> host = take_space(extent, grains * extent.grain);
  if (!host) {
    co_return std::unexpected(host.error());
  }
  // The last grain of the extent may be cut by its end.
  const uint64_t end = std::min(begin + grains * extent.grain, extent.end);
  const uint64_t written = std::min(length, end - offset);
  const uint64_t ticket = open_ticket(
      {.extent = &extent, .table = *table, .entry = first, .grains = grains, .host = *host});
  co_return block::WritePlan{.length = written,
                             .child = extent.file,
                             .host_offset = *host + (offset - begin),
                             .head = offset - begin,
                             .tail = end - (offset + written),
                             .host_reads_zero = *host >= extent.unwritten_from,
                             .ticket = ticket};
}

io::Task<Result<block::WritePlan>> VmdkDriver::begin_compressed_write(uint64_t offset,
                                                                      uint64_t stored_length) {
  VmdkExtent& extent = extent_at(offset);
  Result<void> prepared = co_await prepare_change(extent);
  if (!prepared) {
    co_return pass(prepared);
  }
  const auto table = co_await table_for_write(extent, offset);
  if (!table) {
    co_return std::unexpected(table.error());
  }
  const uint64_t entry = extent.entry_index(offset);
  if (extent.has_data((*table)->entries[entry])) {
    co_return std::unexpected(refuse_again());
  }
  const Result<uint64_t> host = take_space(extent, align_up(stored_length, kSector));
  if (!host) {
    co_return std::unexpected(host.error());
  }
  const uint64_t ticket = open_ticket({.extent = &extent,
                                       .table = *table,
                                       .entry = entry,
                                       .grains = 1,
                                       .host = *host,
                                       .compressed = true});
  co_return block::WritePlan{.length = std::min(extent.grain, extent.end - offset),
                             .child = extent.file,
                             .host_offset = *host,
                             .ticket = ticket};
}

// The file reaches to the end of the last grain, whose tail may have needed no writing.
io::Task<Result<void>> VmdkDriver::fill_up(const Ticket& ticket) {
  const uint64_t end = ticket.host + ticket.grains * ticket.extent->grain;
  if (ticket.compressed || ticket.extent->file->length() >= end) {
    co_return Result<void>{};
  }
  constexpr std::byte kZeroes[kSector] = {};
  co_return co_await ticket.extent->file->write(end - kSector, kZeroes, kSector);
}

io::Task<Result<void>> VmdkDriver::end_write(block::WritePlan plan, uint64_t /*offset*/,
                                             bool written) {
  // What a failed write was to have stays unused until the image is opened again.
  const Ticket ticket = std::exchange(tickets_[plan.ticket - 1], Ticket{});
  if (!written) {
    co_return Result<void>{};
  }
  Result<void> filled = co_await fill_up(ticket);
  if (!filled) {
    co_return filled;
  }
  for (uint64_t i = 0; i < ticket.grains; ++i) {
    const uint64_t place = (ticket.host + i * ticket.extent->grain) / kSector;
    ticket.extent->tables->set(*ticket.table, ticket.entry + i, static_cast<uint32_t>(place));
  }
  co_return Result<void>{};
}

block::TranslatingDriver::Encoding VmdkDriver::encoding() const {
  return encoder() != nullptr ? Encoding::kAlways : Encoding::kNever;
}

const block::Codec* VmdkDriver::encoder() const {
  return extents_.empty() ? nullptr : extents_.front().codec.get();
}

bool VmdkDriver::zeroes_by_metadata(uint64_t offset, uint64_t length) {
  const uint64_t end = offset + length;
  for (uint64_t at = offset; at < end; at = extent_at(at).end) {
    const VmdkExtent& extent = extent_at(at);
    const bool whole = is_aligned(at - extent.begin, extent.grain) &&
                       (end >= extent.end || is_aligned(end - extent.begin, extent.grain));
    if (!extent.sparse() || !extent.header.has(kFlagZeroedGrain) || !whole) {
      return false;
    }
  }
  return true;
}

io::Task<Result<void>> VmdkDriver::zero_grains(VmdkExtent& extent, uint64_t offset, uint64_t end) {
  while (offset < end) {
    Result<void> prepared = co_await prepare_change(extent);
    if (!prepared) {
      co_return prepared;
    }
    const auto table = co_await table_for_write(extent, offset);
    if (!table) {
      co_return std::unexpected(table.error());
    }
    uint64_t entry = extent.entry_index(offset);
    for (; offset < end && entry < (*table)->entries.size(); ++entry) {
      extent.tables->set(**table, entry, kEntryZeroed);
      offset += extent.grain;
    }
  }
  co_return Result<void>{};
}

io::Task<Result<void>> VmdkDriver::write_zeroes(uint64_t offset, uint64_t length,
                                                block::ZeroFlags /*flags*/) {
  if (!zeroes_by_metadata(offset, length)) {
    co_return fail(ENOTSUP, "The image has no grains that are marked as zeroes");
  }
  const uint64_t end = offset + length;
  while (offset < end) {
    VmdkExtent& extent = extent_at(offset);
    const uint64_t part_end = std::min(end, extent.end);
    Result<void> zeroed = co_await zero_grains(extent, offset, part_end);
    if (!zeroed) {
      co_return zeroed;
    }
    offset = part_end;
  }
  co_return Result<void>{};
}

}  // namespace cairn::vmdk
