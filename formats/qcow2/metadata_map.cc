#include "formats/qcow2/metadata_map.h"

#include <algorithm>
#include <utility>

namespace cairn::qcow2 {

namespace {

uint64_t hash(uint64_t chunk) {
  const uint64_t mixed = (chunk + 1) * 0x9e3779b97f4a7c15;  // Fibonacci hashing
  return mixed ^ (mixed >> 32);
}

}  // namespace

const MetadataMap::Slot* MetadataMap::find(uint64_t chunk) const {
  const uint64_t mask = slots_.size() - 1;
  for (uint64_t at = hash(chunk) & mask;; at = (at + 1) & mask) {
    if (slots_[at].key == chunk + 1) {
      return &slots_[at];
    }
    if (slots_[at].key == 0) {
      return nullptr;
    }
  }
}

MetadataMap::Slot& MetadataMap::find_or_add(uint64_t chunk) {
  if (const Slot* found = find(chunk); found != nullptr) {
    return slots_[static_cast<std::size_t>(found - slots_.data())];
  }
  if (4 * (used_ + 1) > 3 * slots_.size()) {
    grow();
  }
  const uint64_t mask = slots_.size() - 1;
  uint64_t at = hash(chunk) & mask;
  while (slots_[at].key != 0) {
    at = (at + 1) & mask;
  }
  slots_[at].key = chunk + 1;
  ++used_;
  return slots_[at];
}

void MetadataMap::grow() {
  std::vector<Slot> old(2 * slots_.size());
  std::swap(old, slots_);
  const uint64_t mask = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.key == 0) {
      continue;
    }
    uint64_t at = hash(slot.key - 1) & mask;
    while (slots_[at].key != 0) {
      at = (at + 1) & mask;
    }
    slots_[at] = slot;
  }
}

void MetadataMap::add(uint64_t host_offset, uint64_t length) {
  if (length == 0) {
    return;
  }
  const uint64_t last = (host_offset + length - 1) >> cluster_bits_;
  for (uint64_t cluster = host_offset >> cluster_bits_; cluster <= last; ++cluster) {
    find_or_add(cluster / kBits).bits |= uint64_t{1} << (cluster % kBits);
  }
}

void MetadataMap::remove(uint64_t host_offset, uint64_t length) {
  if (length == 0) {
    return;
  }
  const uint64_t last = (host_offset + length - 1) >> cluster_bits_;
  for (uint64_t cluster = host_offset >> cluster_bits_; cluster <= last; ++cluster) {
    if (find(cluster / kBits) != nullptr) {
      find_or_add(cluster / kBits).bits &= ~(uint64_t{1} << (cluster % kBits));
    }
  }
}

bool MetadataMap::overlaps(uint64_t host_offset, uint64_t length) const {
  uint64_t cluster = host_offset >> cluster_bits_;
  const uint64_t last = (host_offset + length - 1) >> cluster_bits_;
  while (cluster <= last) {
    const Slot* slot = find(cluster / kBits);
    const uint64_t chunk_end = (cluster / kBits + 1) * kBits;
    if (slot == nullptr) {
      cluster = chunk_end;
      continue;
    }
    // The bits from this cluster to the last one, or to the chunk's end.
    const uint64_t from = slot->bits >> (cluster % kBits);
    const uint64_t count = std::min(last + 1, chunk_end) - cluster;
    if ((count == kBits ? from : from & ((uint64_t{1} << count) - 1)) != 0) {
      return true;
    }
    cluster = chunk_end;
  }
  return false;
}

}  // namespace cairn::qcow2
