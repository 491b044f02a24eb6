// CommandRing: an io_uring for commands to a device, beside the reactor's. Its entries are larger
// ones, and closing it is the only way to take back commands that wait.
//
// On one thread.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"
#include "exports/fuse/ring_protocol.h"

namespace cairn::fuse {

class CommandRing {
 public:
  struct Command {
    RingCommand operation = RingCommand::kRegister;
    std::span<const iovec> memory;  // what it refers to lives as long as the ring
    RingCommandBody body{};
    uint64_t tag = 0;  // comes back with the completion
  };
  struct Completion {
    uint64_t tag = 0;
    int result = 0;  // a negative errno, or 0
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

}  // namespace cairn::fuse
