// Driver and Channel: the kernel's driver for block devices of programs, and its file of one
// device. Behind them can be a pretended one, for tests.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "exports/ublk/protocol.h"
#include "io/command_ring.h"
#include "io/task.h"

namespace cairn::ublk {

// /dev/ublkcN, open.
class Channel {
 public:
  Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  // Its rings are gone.
  virtual ~Channel() = default;

  // What the request in a place asks for, after the kernel has told of it: a copy, taken once.
  [[nodiscard]] virtual RequestDescription description(uint16_t queue, uint16_t place) const = 0;
  // For commands about places, on the thread that calls this and no other.
  [[nodiscard]] virtual Result<std::unique_ptr<io::CommandRing>> make_ring(unsigned entries) = 0;
};

class Driver {
 public:
  Driver() = default;
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  virtual ~Driver() = default;

  // Of the driver; 0 where it can not tell.
  [[nodiscard]] virtual uint64_t features() const = 0;
  // Carries a command out, however long that takes. What it points to stays until then. The error's
  // text is that of its errno.
  [[nodiscard]] virtual io::Task<Result<void>> control(Control command, ControlBody body) = 0;
  // Opens the file of a device that has been added, once it is there.
  [[nodiscard]] virtual io::Task<Result<std::unique_ptr<Channel>>> open_channel(
      const DeviceInfo& device) = 0;
  // The block device, or a part of it, is mounted here, swapped to, or below another device.
  [[nodiscard]] virtual bool is_held(uint32_t device) const = 0;
};

// The kernel's. Fails, and says what is missing, where there is none, or not for this user.
[[nodiscard]] io::Task<Result<std::unique_ptr<Driver>>> open_kernel_driver();

}  // namespace cairn::ublk
