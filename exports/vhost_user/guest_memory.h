// GuestMemory: the memory of the guest, as far as it is shared: regions that are each known by
// where the guest sees them, and where the front-end does.
//
// Invariants
// - Regions overlap in neither way of looking at them, and end before the address space does.
// - No address leads outside of a region, whatever its length; there is no other way to a pointer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "exports/vhost_user/mapped_file.h"
#include "exports/vhost_user/protocol.h"
#include "io/iovector.h"

namespace cairn::vhost_user {

class GuestMemory {
 public:
  // What is shared at most, so that no client takes all addresses that this program has.
  static constexpr uint64_t kLargest = uint64_t{1} << 44;

  // Maps a region of the file. The descriptor can be closed afterwards.
  [[nodiscard]] Result<void> add(const MemoryRegion& what, int fd);
  // By its addresses and its size. ENOENT when there is none.
  [[nodiscard]] Result<void> remove(const MemoryRegion& what);
  void clear() { regions_.clear(); }
  [[nodiscard]] bool empty() const { return regions_.empty(); }

  // Appends guest memory, which may go over several regions that adjoin. False, with some of it
  // appended, when not all of it is there.
  [[nodiscard]] bool append(io::IoVector& vector, uint64_t guest_address, uint64_t length) const;
  // Memory by the front-end's address, within one region; null when it is not there.
  [[nodiscard]] std::byte* at_user(uint64_t user_address, uint64_t length) const;

  // Some of it went away while it was in use.
  [[nodiscard]] bool faulted() const;

 private:
  struct Region {
    MemoryRegion where;
    MappedFile memory;
  };

  [[nodiscard]] const Region* find(uint64_t guest_address) const;

  std::vector<Region> regions_;
  mutable std::size_t last_found_ = 0;  // where it looks first
};

}  // namespace cairn::vhost_user
