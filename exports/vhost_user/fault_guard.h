// FaultGuard: keeps this program alive when memory that a client shares with it goes away.
//
// A file that is mapped can be cut short by whoever else has it, and touching what is gone raises
// SIGBUS. For a range that is guarded the handler puts memory of zeroes in its place, notes that,
// and lets the thread go on; whoever owns the range looks at the note and parts with the client.
// SIGBUS anywhere else does what it did before.
#pragma once

#include <cstddef>
#include <utility>

#include "base/result.h"

namespace cairn::vhost_user {

class FaultGuard {
 public:
  FaultGuard() = default;
  FaultGuard(FaultGuard&& other) noexcept : slot_(std::exchange(other.slot_, -1)) {}
  FaultGuard& operator=(FaultGuard&& other) noexcept {
    if (this != &other) {
      release();
      slot_ = std::exchange(other.slot_, -1);
    }
    return *this;
  }
  FaultGuard(const FaultGuard&) = delete;
  FaultGuard& operator=(const FaultGuard&) = delete;
  ~FaultGuard() { release(); }

  // Guards a mapping as a whole, until it is about to be unmapped. ENOMEM when there are too many.
  [[nodiscard]] static Result<FaultGuard> watch(void* base, std::size_t length);

  // Some of it was not there when it was touched.
  [[nodiscard]] bool faulted() const;

 private:
  explicit FaultGuard(int slot) : slot_(slot) {}
  void release();

  int slot_ = -1;
};

}  // namespace cairn::vhost_user
