// Qcow2Driver: reserving space for writes, and committing or giving it back.
//
// Between begin_write() and end_write() the engine holds the allocation units of the range locked,
// so the L2 entries of a ticket do not change.
#include <algorithm>
#include <utility>

#include "base/bytes.h"
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

// Looks at the entries of up to `clusters` clusters from `guest` on, all in one page.
Qcow2Driver::Target Qcow2Driver::target(Page& page, uint64_t guest, uint64_t clusters) const {
  const auto mode_of = [](uint64_t entry) {
    const ClusterKind kind = classify(entry);
    const bool own = (entry & kEntryCopied) != 0 &&
                     (kind == ClusterKind::kData || kind == ClusterKind::kZeroAllocated);
    return own ? kind : ClusterKind::kUnallocated;  // anything else needs new space
  };
  const uint64_t cluster_size = image_.cluster_size();
  const uint64_t first = mapping_.entry(page, guest);
  const ClusterKind mode = mode_of(first);
  Target target{.clusters = 1,
                .allocate = mode == ClusterKind::kUnallocated,
                .commit = mode != ClusterKind::kData,
                .host = first & kEntryOffsetMask};
  for (; target.clusters < clusters; ++target.clusters) {
    const uint64_t next = mapping_.entry(page, guest + target.clusters * cluster_size);
    const bool continues = target.allocate || (next & kEntryOffsetMask) ==
                                                  target.host + target.clusters * cluster_size;
    if (mode_of(next) != mode || !continues) {
      break;
    }
  }
  return target;
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
  Target found = target(**page, guest, div_round_up(end - guest, cluster_size));
  bool reads_zero = false;
  if (found.allocate) {
    const Result<Refcounts::Allocation> space = co_await refcounts_.allocate(found.clusters);
    if (!space) {
      co_return std::unexpected(space.error());
    }
    found.host = space->host_offset;
    found.clusters = space->clusters;
    reads_zero = space->reads_zero;
  } else {
    Result<void> sane = co_await mapping_.validate(guest, mapping_.entry(**page, guest));
    if (!sane) {
      co_return pass(sane);
    }
    if (image_.guard().protects(found.host, found.clusters * cluster_size)) {
      const uint64_t reach = std::min(end, guest + found.clusters * cluster_size) - offset;
      co_return std::unexpected(co_await image_.overlap(found.host + (offset - guest), reach));
    }
  }
  const uint64_t planned_end = std::min(end, guest + found.clusters * cluster_size);
  block::WritePlan plan{.length = planned_end - offset,
                        .child = &image_.file(),
                        .host_offset = found.host + (offset - guest)};
  if (found.commit) {
    plan.head = offset - guest;
    plan.tail = align_up(planned_end, cluster_size) - planned_end;
    plan.host_reads_zero = reads_zero;
    plan.ticket = open_ticket({.page = std::move(*page),
                               .guest = guest,
                               .host = found.host,
                               .clusters = found.clusters,
                               .allocated = found.allocate});
  }
  co_return plan;
}

const block::Codec* Qcow2Driver::encoder() const { return &codec_for(image_.header().compression); }

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
  const ClusterKind kind = classify(mapping_.entry(**page, offset));
  if (kind == ClusterKind::kData || kind == ClusterKind::kCompressed) {
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
    const Result<void> released =
        co_await refcounts_.release(first, (end - first) >> geometry.cluster_bits);
    static_cast<void>(released);
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
  const uint64_t cluster_size = image_.cluster_size();
  if (!written) {
    if (ticket.allocated) {
      // What can not be given back is a leak; the write has failed in any case.
      const Result<void> released = co_await refcounts_.release(ticket.host, ticket.clusters);
      static_cast<void>(released);
    }
    co_return Result<void>{};
  }
  if (ticket.compressed != 0) {
    free_entry(mapping_.entry(*ticket.page, ticket.guest), FreeCause::kOther);
    mapping_.set_entry(*ticket.page, ticket.guest, ticket.compressed);
    co_return Result<void>{};
  }
  for (uint64_t i = 0; i < ticket.clusters; ++i) {
    const uint64_t guest = ticket.guest + i * cluster_size;
    if (ticket.allocated) {
      free_entry(mapping_.entry(*ticket.page, guest), FreeCause::kOther);
    }
    mapping_.set_entry(*ticket.page, guest, (ticket.host + i * cluster_size) | kEntryCopied);
  }
  co_return Result<void>{};
}

void Qcow2Driver::free_entry(uint64_t entry, FreeCause cause) {
  switch (classify(entry)) {
    case ClusterKind::kUnallocated:
    case ClusterKind::kZeroPlain:
      return;
    case ClusterKind::kData:
    case ClusterKind::kZeroAllocated: {
      const uint64_t host = entry & kEntryOffsetMask;
      // In a damaged image the entry may point to a table or between clusters; a leak is better
      // than a hole in somebody else's data.
      if (is_aligned(host, image_.cluster_size()) &&
          !image_.guard().protects(host, image_.cluster_size())) {
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
    if (!image_.guard().protects(host, 1)) {
      reclaim_.queue({.host_offset = host, .clusters = 1, .cause = FreeCause::kOther});
    }
  }
}

}  // namespace cairn::qcow2
