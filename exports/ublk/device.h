// Device: a block device of the kernel, from its making to its end.
//
// Either it is new, or it is one that another server left behind when it died: then requests have
// waited for us, and those that it had taken come again.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "exports/ublk/driver.h"
#include "exports/ublk/protocol.h"
#include "io/task.h"

namespace cairn::ublk {

struct DeviceSettings {
  uint32_t number = 0;  // of /dev/ublkbN
  uint16_t queues = 1;
  uint16_t queue_depth = 64;  // requests in flight, of each queue
  uint32_t block_size = 512;  // the unit of reading and writing: a power of two
  bool writable = false;
  bool writethrough = false;
  bool recoverable = false;  // it waits for another server when this one dies
};

inline constexpr uint32_t kLargestTransfer = 512u << 10;  // bytes of one request

class Device {
 public:
  // Adds a device of `length` bytes, or takes over one that waits for a server, when that is wanted
  // and it has the same length. EEXIST: somebody serves it. `driver` outlives this. Whoever gets a
  // device removes it.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<Device>>> create(Driver& driver,
                                                                        DeviceSettings settings,
                                                                        uint64_t length);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() = default;

  [[nodiscard]] const DeviceInfo& info() const { return info_; }
  [[nodiscard]] Channel& channel() { return *channel_; }

  // Every place has been offered; requests come from now on, and have to be answered while this
  // waits.
  [[nodiscard]] io::Task<Result<void>> start();
  // Takes the block device away from its users. What they have asked for is answered meanwhile, and
  // then the kernel takes back all places.
  [[nodiscard]] io::Task<void> stop();
  // Removes the device when nobody serves it any more, unless it was taken over and has not
  // started: then it goes on waiting.
  [[nodiscard]] io::Task<void> remove();
  // The device has another length, in bytes. ENOTSUP where the kernel can not change it.
  [[nodiscard]] io::Task<Result<void>> set_length(uint64_t length);
  [[nodiscard]] bool is_held() const { return driver_.is_held(info_.device); }

 private:
  Device(Driver& driver, DeviceSettings settings) : driver_(driver), settings_(settings) {}

  [[nodiscard]] io::Task<Result<void>> look(DeviceInfo& info);
  [[nodiscard]] io::Task<Result<void>> add(uint64_t length);
  [[nodiscard]] io::Task<Result<void>> take_over(uint64_t length);
  [[nodiscard]] io::Task<Result<void>> ask(Control command, uint64_t value = 0);
  [[nodiscard]] Parameters parameters(uint64_t length) const;
  [[nodiscard]] uint64_t sectors_of(uint64_t length) const;

  Driver& driver_;
  const DeviceSettings settings_;
  DeviceInfo info_{};
  std::unique_ptr<Channel> channel_;
  bool taken_over_ = false;
  bool started_ = false;
};

}  // namespace cairn::ublk
