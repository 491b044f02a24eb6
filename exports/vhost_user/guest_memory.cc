#include "exports/vhost_user/guest_memory.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/bytes.h"

namespace cairn::vhost_user {
namespace {

bool overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size) {
  return a < b + b_size && b < a + a_size;
}

}  // namespace

Result<void> GuestMemory::add(const MemoryRegion& what, int fd) {
  if (regions_.size() >= kMostRegions) {
    return fail(ENOSPC, "there are more than {} regions of memory", kMostRegions);
  }
  if (!checked_add(what.guest_address, what.size) || !checked_add(what.user_address, what.size)) {
    return fail(EINVAL, "a region of memory of {:#x} bytes goes beyond all addresses", what.size);
  }
  uint64_t total = what.size;
  for (const Region& other : regions_) {
    total += other.where.size;
    if (overlap(what.guest_address, what.size, other.where.guest_address, other.where.size) ||
        overlap(what.user_address, what.size, other.where.user_address, other.where.size)) {
      return fail(EEXIST, "the region of memory at {:#x} overlaps the one at {:#x}",
                  what.guest_address, other.where.guest_address);
    }
  }
  if (what.size > kLargest || total > kLargest) {
    return fail(ENOMEM, "more memory is shared than {:#x} bytes", kLargest);
  }
  auto memory = MappedFile::map(fd, what.offset, what.size);
  if (!memory) {
    return pass(memory);
  }
  regions_.push_back({what, std::move(*memory)});
  return {};
}

Result<void> GuestMemory::remove(const MemoryRegion& what) {
  const auto found = std::ranges::find_if(regions_, [&what](const Region& region) {
    return region.where.guest_address == what.guest_address &&
           region.where.user_address == what.user_address && region.where.size == what.size;
  });
  if (found == regions_.end()) {
    return fail(ENOENT, "there is no region of memory at {:#x} with {:#x} bytes",
                what.guest_address, what.size);
  }
  regions_.erase(found);
  last_found_ = 0;
  return {};
}

const GuestMemory::Region* GuestMemory::find(uint64_t guest_address) const {
  for (std::size_t i = 0; i < regions_.size(); ++i) {
    const std::size_t at = (last_found_ + i) % regions_.size();
    const MemoryRegion& where = regions_[at].where;
    if (guest_address >= where.guest_address && guest_address - where.guest_address < where.size) {
      last_found_ = at;
      return &regions_[at];
    }
  }
  return nullptr;
}

bool GuestMemory::append(io::IoVector& vector, uint64_t guest_address, uint64_t length) const {
  while (length > 0) {
    const Region* const region = find(guest_address);
    if (region == nullptr) {
      return false;
    }
    const uint64_t inside = guest_address - region->where.guest_address;
    const uint64_t piece = std::min(length, region->where.size - inside);
    vector.append(region->memory.data() + inside, piece);
    // A region ends before the addresses do, so this stays in range or finds none.
    guest_address += piece;
    length -= piece;
  }
  return true;
}

std::byte* GuestMemory::at_user(uint64_t user_address, uint64_t length) const {
  for (const Region& region : regions_) {
    const uint64_t begin = region.where.user_address;
    if (user_address >= begin && user_address - begin < region.where.size) {
      const uint64_t inside = user_address - begin;
      return length <= region.where.size - inside ? region.memory.data() + inside : nullptr;
    }
  }
  return nullptr;
}

bool GuestMemory::faulted() const {
  return std::ranges::any_of(regions_,
                             [](const Region& region) { return region.memory.faulted(); });
}

}  // namespace cairn::vhost_user
