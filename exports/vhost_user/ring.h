// Ring: a virtqueue as the device sees it: requests that the driver has made available are taken,
// and given back when they are done, in any order.
//
// Everything in the memory of a ring may be wrong; a Result that fails means that the driver can
// not be worked with.
//
// Invariants
// - No more requests are taken at a time than the ring has places for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "exports/vhost_user/chain.h"
#include "exports/vhost_user/dirty_log.h"
#include "exports/vhost_user/guest_memory.h"

namespace cairn::vhost_user {

// The parts of a ring in memory of this program, each as long as its kind of ring needs, and
// aligned. Of a packed ring they are the descriptors, and what device and driver want to be told.
struct RingParts {
  std::byte* descriptors = nullptr;
  std::byte* available = nullptr;  // the driver writes here
  std::byte* used = nullptr;       // the device writes here
};

struct RingSetup {
  uint16_t size = 0;
  RingParts parts;
  const GuestMemory* memory = nullptr;
  bool indirect = false;          // descriptors may point to tables of others
  bool event_index = false;       // both sides say at which place they want to be told
  DirtyLog* log = nullptr;        // null: changes of memory are not logged
  bool logs_ring = false;         // those of the ring neither
  uint64_t used_log_address = 0;  // where `used` begins for the log
};

class Ring {
 public:
  explicit Ring(const RingSetup& setup) : setup_(setup) {}
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  virtual ~Ring() = default;

  // Takes the next request into `chain`, which is empty. False: there is none.
  [[nodiscard]] virtual Result<bool> pop(Chain& chain) = 0;
  // Gives a request back, into whose memory so many bytes were written from its beginning on.
  virtual void push(const Chain& chain, uint32_t written) = 0;

  // The driver wants to be told of what was given back since this was asked for the last time.
  [[nodiscard]] virtual bool wants_signal() = 0;
  // Whether the driver shall tell of what it makes available from now on. It may have done so
  // before it learns of it: look once more.
  virtual void set_kicks(bool wanted) = 0;
  // There is something to pop.
  [[nodiscard]] virtual bool has_available() = 0;

  // Nothing is left of what was in flight when another program had the ring.
  [[nodiscard]] virtual bool caught_up() const = 0;
  // Where the next request is taken from, in the form of the messages about it.
  [[nodiscard]] virtual uint32_t position() const = 0;

 protected:
  void log_used(uint64_t offset, uint64_t length) {
    if (setup_.logs_ring && setup_.log != nullptr) {
      setup_.log->mark(setup_.used_log_address + offset, length);
    }
  }
  void log_written(const Chain& chain);

  const RingSetup setup_;
  std::vector<std::byte> table_;  // of the indirect descriptor at hand
};

}  // namespace cairn::vhost_user
