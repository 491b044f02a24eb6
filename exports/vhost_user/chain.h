// Chain: one request as it lies in a ring: which memory of the guest it is made of; and the
// building of one from descriptors (virtio 1.2, sections 2.7.5 and 2.8.6), which may say anything.
//
// Invariants
// - Descriptors are copied before they are looked at, and never looked at again in shared memory.
// - What the device reads comes before what it writes; a chain is no longer than kMostDescriptors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "exports/vhost_user/guest_memory.h"
#include "io/iovector.h"

namespace cairn::vhost_user {

struct GuestRange {
  uint64_t address;
  uint64_t length;
};

struct Chain {
  uint16_t id = 0;     // by which the driver knows it: the first descriptor, or the buffer's number
  uint16_t slots = 0;  // how many descriptors of a packed ring it takes
  uint16_t track = 0;  // where the tracking of a packed ring has it
  io::IoVector readable;
  io::IoVector writable;
  // Where `writable` lies, when changes of memory are logged.
  std::vector<GuestRange> written;
};

// A descriptor of either kind of ring, as far as they are alike.
struct Descriptor {
  uint64_t address;
  uint32_t length;
  bool writable;
};

class ChainBuilder {
 public:
  static constexpr std::size_t kMostDescriptors = 1024;

  // `chain` is empty; both outlive this.
  ChainBuilder(const GuestMemory& memory, bool logged, Chain& chain)
      : memory_(memory), logged_(logged), chain_(chain) {}

  [[nodiscard]] Result<void> add(const Descriptor& descriptor);
  // Copies a table of descriptors that an indirect one points to.
  [[nodiscard]] Result<void> copy_table(uint64_t address, uint32_t length,
                                        std::vector<std::byte>& table) const;

 private:
  const GuestMemory& memory_;
  const bool logged_;
  Chain& chain_;
  std::size_t count_ = 0;
};

}  // namespace cairn::vhost_user
