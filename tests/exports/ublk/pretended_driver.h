// A driver for block devices that is no kernel's: it keeps devices, hands requests to whoever
// serves them, and remembers what they answer. Two threads may use it.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/result.h"
#include "exports/ublk/driver.h"
#include "exports/ublk/protocol.h"
#include "io/fd.h"
#include "io/task.h"

namespace cairn::ublk {

class PretendedKernel {
 public:
  struct Answer {
    int32_t result = 0;
    std::vector<std::byte> data;  // what the place's memory holds
  };
  struct Device {
    DeviceInfo info;
    Parameters parameters;
    std::vector<RequestDescription> descriptions;  // by tag
    std::map<uint64_t, std::byte*> memory;         // by tag, of places that are offered
    std::map<uint64_t, uint64_t> under_way;        // number of the request, by tag
    std::map<uint64_t, Answer> answers;            // by the number of the request
    std::deque<io::CommandRing::Completion> done;  // for the server to take
    bool open = false;                             // somebody has the channel
  };

  PretendedKernel();

  uint64_t features = 0;
  bool held = false;
  bool knows_recovery = true;
  bool refuses_rings = false;
  int looks_until_quiesced = 0;   // after so many a live device is found to have no server
  std::map<Control, int> errors;  // errno with which a command fails

  // Gives a request to a place that is offered; `data` is that of a write. Returns its number.
  uint64_t ask(uint32_t device, RequestDescription asked, std::span<const std::byte> data = {});
  // Nothing yet when it has not been answered.
  [[nodiscard]] std::optional<Answer> answer(uint32_t device, uint64_t request);
  // A copy of a device, as it is now; nothing when there is none.
  [[nodiscard]] std::optional<Device> device(uint32_t number);
  // What is left of a device when its server dies.
  void leave_behind(Device device);
  [[nodiscard]] std::vector<Control> commands();

 private:
  friend class PretendedDriver;
  friend class PretendedChannel;
  friend class PretendedRing;

  [[nodiscard]] Result<void> carry_out(Control command, const ControlBody& body);
  void complete(Device& device, io::CommandRing::Completion completion);

  std::mutex mutex_;
  std::map<uint32_t, Device> devices_;
  std::vector<Control> commands_;
  bool encoded_ = false;  // the last command about a place
  uint64_t next_request_ = 1;
  io::Fd event_;
};

// `kernel` outlives it.
[[nodiscard]] std::unique_ptr<Driver> make_pretended_driver(PretendedKernel& kernel);

}  // namespace cairn::ublk
