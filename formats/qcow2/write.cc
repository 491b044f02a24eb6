// Qcow2Driver: reserving space for writes, and committing or giving it back.
//
// Between begin_write() and end_write() the engine holds the allocation units of the range locked,
// so the L2 entries of a ticket do not change.
#include <algorithm>
#include <bit>
#include <utility>

#include "base/bytes.h"
#include "block/fault_point.h"
#include "block/node.h"
#include "formats/qcow2/codec.h"
#include "formats/qcow2/driver.h"

namespace cairn::qcow2 {

io::Task<Result<void>> Qcow2Driver::prepare_write() {
  Result<void> result = co_await image_.prepare_write();
  if (result && writeback_.pressed()) {
    result = co_await writeback_.relieve();
  }
  co_return result;
}

// Looks at the entries of up to `clusters` clusters from that of `offset` on, all in one page.
Qcow2Driver::Target Qcow2Driver::target(Page& page, uint64_t offset, uint64_t clusters) const {
  const Geometry& geometry = image_.geometry();
  const uint64_t cluster_size = geometry.cluster_size();
  const auto mode_at = [&](uint64_t at) {
    const uint64_t entry = mapping_.entry(page, at);
    const ClusterKind kind = geometry.classify(entry);
    const bool own = (entry & kEntryCopied) != 0 &&
                     (kind == ClusterKind::kData || kind == ClusterKind::kZeroAllocated);
    if (!own) {
      return ClusterKind::kUnallocated;  // needs new space
    }
    if (!geometry.extended_l2()) {
      return kind;
    }
    // A cluster with subclusters takes data where it has none yet, in its own space.
    const auto subcluster =
        static_cast<uint32_t>((at & geometry.cluster_mask()) / geometry.subcluster_size());
    return mapping_.subclusters(page, at).kind(subcluster) == SubclusterKind::kData
               ? ClusterKind::kData
               : ClusterKind::kZeroAllocated;
  };
  const uint64_t guest = align_down(offset, cluster_size);
  const ClusterKind mode = mode_at(offset);
  Target target{.clusters = 1,
                .allocate = mode == ClusterKind::kUnallocated,
                .commit = mode != ClusterKind::kData,
                .host = mapping_.entry(page, offset) & kEntryOffsetMask};
  for (; target.clusters < clusters; ++target.clusters) {
    const uint64_t at = guest + target.clusters * cluster_size;
    const uint64_t place = mapping_.entry(page, at) & kEntryOffsetMask;
    if (mode_at(at) != mode ||
        (!target.allocate && place != target.host + target.clusters * cluster_size)) {
      break;
    }
  }
  return target;
}

// What has to be written, so that all of it is whole clusters, or whole subclusters. The range
// written ends in the same page. In new space, data that the first and the last cluster have
// elsewhere comes along, with what lies between.
Qcow2Driver::GuestRange Qcow2Driver::widened(Page& page, GuestRange written, bool allocate) const {
  const Geometry& geometry = image_.geometry();
  const uint64_t unit = geometry.subcluster_size();
  GuestRange range{align_down(written.begin, unit), align_up(written.end, unit)};
  if (!allocate || !geometry.extended_l2()) {
    return range;
  }
  const auto data_of = [&](uint64_t cluster) {
    const bool compressed = (mapping_.entry(page, cluster) & kEntryCompressed) != 0;
    return (compressed ? SubclusterBitmap::all_data() : mapping_.subclusters(page, cluster)).data();
  };
  const uint64_t first = align_down(written.begin, geometry.cluster_size());
  if (const uint32_t data = data_of(first); data != 0) {
    range.begin = std::min(range.begin, first + std::countr_zero(data) * unit);
  }
  const uint64_t last = align_down(written.end - 1, geometry.cluster_size());
  if (const uint32_t data = data_of(last); data != 0) {
    range.end = std::max(range.end, last + std::bit_width(data) * unit);
  }
  return range;
}

uint64_t Qcow2Driver::open_ticket(Ticket ticket) {
  if (free_tickets_.empty()) {
    tickets_.push_back(std::move(ticket));
    return tickets_.size();
  }
  const uint64_t id = free_tickets_.back();
  free_tickets_.pop_back();
  tickets_[id - 1] = std::move(ticket);
  return id;
}

// Space for the data of clusters from a guest offset on. In an external data file they have it.
io::Task<Result<Refcounts::Allocation>> Qcow2Driver::take_space(uint64_t guest, uint64_t clusters) {
  if (image_.geometry().external_data) {
    co_return Refcounts::Allocation{.host_offset = guest, .clusters = clusters};
  }
  co_return co_await refcounts_.allocate(clusters);
}

// What can not be given back is a leak; whoever wanted the space has failed in any case.
io::Task<void> Qcow2Driver::give_back(uint64_t host, uint64_t clusters) {
  if (!image_.geometry().external_data) {
    const Result<void> released = co_await refcounts_.release(host, clusters);
    static_cast<void>(released);
  }
}

io::Task<Result<block::WritePlan>> Qcow2Driver::begin_write(uint64_t offset, uint64_t length) {
  Result<void> ready = co_await prepare_write();
  if (!ready) {
    co_return pass(ready);
  }
  Result<PagePin> page = co_await mapping_.writable_page(offset);
  if (!page) {
    co_return pass(page);
  }
  const uint64_t cluster_size = image_.cluster_size();
  const uint64_t guest = align_down(offset, cluster_size);
  const uint64_t end = std::min(offset + length, mapping_.page_end(offset));
  Target found = target(**page, offset, div_round_up(end - guest, cluster_size));
  bool reads_zero = false;
  if (found.allocate) {
    const Result<Refcounts::Allocation> space = co_await take_space(guest, found.clusters);
    if (!space) {
      co_return std::unexpected(space.error());
    }
    found.host = space->host_offset;
    found.clusters = space->clusters;
    reads_zero = space->reads_zero;
  } else {
    Result<void> sane = co_await mapping_.validate(**page, guest);
    if (!sane) {
      co_return pass(sane);
    }
    if (image_.metadata_at(found.host, found.clusters * cluster_size)) {
      const uint64_t reach = std::min(end, guest + found.clusters * cluster_size) - offset;
      co_return std::unexpected(co_await image_.overlap(found.host + (offset - guest), reach));
    }
  }
  const uint64_t planned_end = std::min(end, guest + found.clusters * cluster_size);
  block::WritePlan plan{.length = planned_end - offset,
                        .child = &image_.data(),
                        .host_offset = found.host + (offset - guest),
                        .sectors = sectors_};
  if (found.commit) {
    const GuestRange data = widened(**page, {offset, planned_end}, found.allocate);
    // An external data file ends where the disk does.
    const uint64_t end_of_data =
        image_.geometry().external_data ? std::min(data.end, this->length()) : data.end;
    plan.head = offset - data.begin;
    plan.tail = end_of_data - planned_end;
    plan.host_reads_zero = reads_zero;
    plan.ticket = open_ticket({.page = std::move(*page),
                               .guest = guest,
                               .host = found.host,
                               .clusters = found.clusters,
                               .allocated = found.allocate,
                               .data_begin = data.begin,
                               .data_end = data.end});
  }
  co_return plan;
}

const block::Codec* Qcow2Driver::encoder() const {
  // Nothing is both compressed and encrypted.
  const bool possible = !image_.geometry().external_data && encryption_ == nullptr;
  return !possible ? nullptr : &codec_for(image_.header().compression, compression_level_);
}

io::Task<Result<block::WritePlan>> Qcow2Driver::begin_compressed_write(uint64_t offset,
                                                                       uint64_t stored_length) {
  Result<void> ready = co_await prepare_write();
  if (!ready) {
    co_return pass(ready);
  }
  Result<PagePin> page = co_await mapping_.writable_page(offset);
  if (!page) {
    co_return pass(page);
  }
  const ClusterKind kind = image_.geometry().classify(mapping_.entry(**page, offset));
  const bool has_data =
      kind == ClusterKind::kData &&
      (!image_.geometry().extended_l2() || mapping_.subclusters(**page, offset).data() != 0);
  if (has_data || kind == ClusterKind::kCompressed) {
    co_return fail(EIO, "Compressed data can not overwrite the cluster at {}", offset);
  }
  Result<uint64_t> host = co_await refcounts_.allocate_bytes(stored_length);
  if (!host) {
    co_return pass(host);
  }
  const Geometry& geometry = image_.geometry();
  block::WritePlan plan{
      .length = image_.cluster_size(), .child = &image_.file(), .host_offset = *host};
  const uint64_t first = align_down(*host, image_.cluster_size());
  const uint64_t end = align_up(*host + stored_length, image_.cluster_size());
  if (*host + stored_length > geometry.compressed_limit()) {
    co_await give_back(first, (end - first) >> geometry.cluster_bits);
    co_return fail(EFBIG, "qcow2: the image file is too large for compressed clusters");
  }
  plan.ticket = open_ticket({.page = std::move(*page),
                             .guest = offset,
                             .host = first,
                             .clusters = (end - first) >> geometry.cluster_bits,
                             .allocated = true,
                             .compressed = geometry.compressed_entry(*host, stored_length)});
  co_return plan;
}

io::Task<Result<void>> Qcow2Driver::end_write(block::WritePlan plan, uint64_t /*offset*/,
                                              bool written) {
  const Ticket ticket = std::exchange(tickets_[plan.ticket - 1], {});
  free_tickets_.push_back(plan.ticket);
  if (!written) {
    if (ticket.allocated) {
      co_await give_back(ticket.host, ticket.clusters);
    }
    co_return Result<void>{};
  }
  if (ticket.compressed != 0) {
    co_await block::fault_point(image_.file(), block::FaultPoint::kL2UpdateCompressed);
    free_entry(mapping_.entry(*ticket.page, ticket.guest), FreeCause::kOther);
    mapping_.set_entry(*ticket.page, ticket.guest, ticket.compressed);
    co_return Result<void>{};
  }
  for (uint64_t i = 0; i < ticket.clusters; ++i) {
    commit_cluster(ticket, i);
  }
  co_return Result<void>{};
}

// The data of one cluster of a ticket is in place.
void Qcow2Driver::commit_cluster(const Ticket& ticket, uint64_t index) {
  const Geometry& geometry = image_.geometry();
  const uint64_t guest = ticket.guest + index * geometry.cluster_size();
  const uint64_t old = mapping_.entry(*ticket.page, guest);
  SubclusterBitmap subclusters;
  if (geometry.extended_l2()) {
    if ((old & kEntryCompressed) == 0) {
      subclusters = mapping_.subclusters(*ticket.page, guest);
    }
    const uint64_t begin = std::max(ticket.data_begin, guest) - guest;
    const uint64_t end = std::min(ticket.data_end, guest + geometry.cluster_size()) - guest;
    subclusters.set_data(
        SubclusterBitmap::range(static_cast<uint32_t>(begin / geometry.subcluster_size()),
                                static_cast<uint32_t>(end / geometry.subcluster_size())));
  }
  if (ticket.allocated) {
    free_entry(old, FreeCause::kOther);
  }
  mapping_.set_entry(*ticket.page, guest,
                     (ticket.host + index * geometry.cluster_size()) | kEntryCopied, subclusters);
}

void Qcow2Driver::free_entry(uint64_t entry, FreeCause cause) {
  if (image_.geometry().external_data) {
    return;  // nothing else will ever be put there
  }
  switch (image_.geometry().classify(entry)) {
    case ClusterKind::kUnallocated:
    case ClusterKind::kZeroPlain:
      return;
    case ClusterKind::kData:
    case ClusterKind::kZeroAllocated: {
      const uint64_t host = entry & kEntryOffsetMask;
      // In a damaged image the entry may point to a table or between clusters; a leak is better
      // than a hole in somebody else's data.
      if (is_aligned(host, image_.cluster_size()) &&
          !image_.metadata_at(host, image_.cluster_size())) {
        reclaim_.queue({.host_offset = host, .clusters = 1, .cause = cause});
      }
      return;
    }
    case ClusterKind::kCompressed:
      break;
  }
  // Compressed clusters count once for every host cluster they touch.
  const CompressedRange stored = image_.geometry().compressed_range(entry);
  const uint64_t first = align_down(stored.host_offset, image_.cluster_size());
  const uint64_t end = align_up(stored.host_offset + stored.length, image_.cluster_size());
  for (uint64_t host = first; host < end; host += image_.cluster_size()) {
    if (!image_.metadata_at(host, 1)) {
      reclaim_.queue({.host_offset = host, .clusters = 1, .cause = FreeCause::kOther});
    }
  }
}

}  // namespace cairn::qcow2
