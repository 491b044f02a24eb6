// CommandRing: an io_uring for commands to a device (IORING_OP_URING_CMD), beside the reactor's.
// Its entries are larger ones, and closing it is the only way to take back commands that wait.
//
// On one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"

namespace cairn::io {

class CommandRing {
 public:
  static constexpr std::size_t kBodyBytes = 80;  // what an entry has room for

  struct Command {
    uint32_t operation = 0;           // a number of the device's
    const void* address = nullptr;    // what the entry's `addr` and `len` say; memory that they
    uint32_t length = 0;              // refer to lives as long as the ring
    std::span<const std::byte> body;  // is copied; at most kBodyBytes
    uint64_t tag = 0;                 // comes back with the completion
  };
  struct Completion {
    uint64_t tag = 0;
    int result = 0;  // a negative errno, or what the device says
  };

  CommandRing() = default;
  CommandRing(const CommandRing&) = delete;
  CommandRing& operator=(const CommandRing&) = delete;
  // What waits is given up.
  virtual ~CommandRing() = default;

  // Becomes readable when there is something to take.
  [[nodiscard]] virtual int descriptor() const = 0;
  // Has a command go along with the next submit(). There may be as many as the ring has entries.
  virtual void add(const Command& command) = 0;
  // Hands over what was added, and has the kernel do what it has put off.
  virtual void submit() = 0;
  // The next completion, if there is one.
  [[nodiscard]] virtual std::optional<Completion> take() = 0;
};

// For commands on `descriptor`, which outlives it; at most `entries` are under way. Fails where the
// kernel, or what contains this program, does not allow it.
[[nodiscard]] Result<std::unique_ptr<CommandRing>> make_command_ring(int descriptor,
                                                                     unsigned entries);

}  // namespace cairn::io
