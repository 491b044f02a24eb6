#include "exports/ublk/device.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <utility>

#include "base/bytes.h"
#include "base/sector.h"
#include "io/timer.h"

namespace cairn::ublk {
namespace {

constexpr uint32_t kPhysicalBlock = 4096;
constexpr uint32_t kMostChanged = UINT32_MAX >> 9;  // sectors that one request discards or zeroes

// The kernel looks for servers that died now and then, every five seconds in old versions.
constexpr int kLooks = 200;
constexpr io::Duration kBetweenLooks = std::chrono::milliseconds(50);

// Its server is dead, and the kernel has not noticed yet.
bool waits_for_kernel(const DeviceInfo& info) {
  return info.state == DeviceState::kLive && info.server > 0 && kill(info.server, 0) != 0 &&
         errno == ESRCH;
}

uint8_t shift_of(uint32_t bytes) { return static_cast<uint8_t>(std::countr_zero(bytes)); }

}  // namespace

io::Task<Result<std::unique_ptr<Device>>> Device::create(Driver& driver, DeviceSettings settings,
                                                         uint64_t length) {
  std::unique_ptr<Device> device(new Device(driver, settings));
  DeviceInfo there{};
  Result<void> exists = co_await device->look(there);
  for (int i = 0; i < kLooks && exists && settings.recoverable && waits_for_kernel(there); ++i) {
    (void)co_await io::sleep_for(kBetweenLooks);
    exists = co_await device->look(there);
  }
  Result<void> made;
  if (!exists) {
    made = co_await device->add(length);
  } else if (settings.recoverable && there.state == DeviceState::kQuiesced) {
    device->info_ = there;
    made = co_await device->take_over(length);
  } else {
    made = fail(EEXIST, "ublk device {} exists already", settings.number);
  }
  if (!made) {
    co_return pass(made);
  }
  Result<std::unique_ptr<Channel>> channel = co_await driver.open_channel(device->info_);
  if (!channel) {
    co_await device->remove();
    co_return pass(channel);
  }
  device->channel_ = std::move(*channel);
  co_return device;
}

io::Task<Result<void>> Device::look(DeviceInfo& info) {
  Result<void> told = co_await driver_.control(Control::kGetDeviceInfo,
                                               {.device = settings_.number,
                                                .length = sizeof info,
                                                .address = reinterpret_cast<uintptr_t>(&info)});
  co_return told;
}

io::Task<Result<void>> Device::ask(Control command, uint64_t value) {
  Result<void> done = co_await driver_.control(command, {.device = info_.device, .value = value});
  co_return done;
}

io::Task<Result<void>> Device::add(uint64_t length) {
  const uint64_t recovery = settings_.recoverable ? kUserRecovery | kUserRecoveryReissue : 0;
  info_ = {.queues = settings_.queues,
           .queue_depth = settings_.queue_depth,
           .buffer_bytes = kLargestTransfer,
           .device = settings_.number,
           .flags = recovery | (driver_.features() & (kCommandEncoding | kUpdatableSize))};
  const uint64_t wanted = info_.flags;
  Result<void> added = co_await driver_.control(Control::kAddDevice,
                                                {.device = settings_.number,
                                                 .length = sizeof info_,
                                                 .address = reinterpret_cast<uintptr_t>(&info_)});
  if (!added) {
    co_return pass(added, fmt::format("Could not add ublk device {}: ", settings_.number));
  }
  if ((recovery & ~info_.flags) != 0) {
    co_await remove();
    co_return fail(ENOTSUP, "The kernel can not keep ublk devices for recovery");
  }
  info_.flags &= wanted;
  Parameters set = parameters(length);
  Result<void> told = co_await driver_.control(
      Control::kSetParameters,
      {.device = info_.device, .length = sizeof set, .address = reinterpret_cast<uintptr_t>(&set)});
  if (!told) {
    co_await remove();
    co_return pass(told, fmt::format("Could not set up ublk device {}: ", settings_.number));
  }
  co_return told;
}

io::Task<Result<void>> Device::take_over(uint64_t length) {
  taken_over_ = true;
  Parameters there{.length = sizeof there};
  Result<void> told = co_await driver_.control(Control::kGetParameters,
                                               {.device = info_.device,
                                                .length = sizeof there,
                                                .address = reinterpret_cast<uintptr_t>(&there)});
  if (!told) {
    co_return pass(told, fmt::format("Could not look at ublk device {}: ", info_.device));
  }
  if (there.sectors != sectors_of(length)) {
    co_return fail(EINVAL, "ublk device {} waits for a server with {} bytes, not {}", info_.device,
                   there.sectors * kSector, sectors_of(length) * kSector);
  }
  if (((there.attributes & kReadOnly) == 0) != settings_.writable) {
    co_return fail(EINVAL, "ublk device {} was made {}", info_.device,
                   settings_.writable ? "for reading alone" : "to be written to");
  }
  Result<void> begun = co_await ask(Control::kStartRecovery);
  if (!begun) {
    co_return pass(begun, fmt::format("Could not take over ublk device {}: ", info_.device));
  }
  co_return begun;
}

io::Task<Result<void>> Device::start() {
  const Control command = taken_over_ ? Control::kEndRecovery : Control::kStartDevice;
  Result<void> done = co_await ask(command, static_cast<uint64_t>(getpid()));
  if (!done) {
    co_return pass(done, fmt::format("Could not start ublk device {}: ", info_.device));
  }
  started_ = true;
  co_return done;
}

io::Task<void> Device::stop() {
  const Result<void> stopped = co_await ask(Control::kStopDevice);
  static_cast<void>(stopped);  // then it has been stopped, or never started
}

io::Task<void> Device::remove() {
  channel_.reset();
  if (taken_over_ && !started_) {
    co_return;
  }
  const Result<void> removed = co_await ask(Control::kDeleteDevice);
  static_cast<void>(removed);  // it is gone, then
}

io::Task<Result<void>> Device::set_length(uint64_t length) {
  if ((info_.flags & kUpdatableSize) == 0) {
    co_return fail(ENOTSUP, "The kernel can not change the length of ublk devices");
  }
  Result<void> done = co_await ask(Control::kUpdateSize, sectors_of(length));
  co_return done;
}

uint64_t Device::sectors_of(uint64_t length) const {
  return align_down(length, settings_.block_size) / kSector;
}

Parameters Device::parameters(uint64_t length) const {
  const uint32_t physical = std::max(settings_.block_size, kPhysicalBlock);
  Parameters set{.length = sizeof set,
                 .types = kBasicParameters,
                 .attributes = settings_.writable ? 0 : kReadOnly,
                 .logical_block_shift = shift_of(settings_.block_size),
                 .physical_block_shift = shift_of(physical),
                 .best_transfer_shift = shift_of(physical),
                 .smallest_transfer_shift = shift_of(physical),
                 .most_sectors = kLargestTransfer / kSector,
                 .sectors = sectors_of(length)};
  if (!settings_.writethrough) {
    set.attributes |= kVolatileCache | kForcedUnitAccess;
  }
  if (settings_.writable) {
    set.types |= kDiscardParameters;
    set.discard_granularity = physical;
    set.most_discarded_sectors = kMostChanged;
    set.most_zeroed_sectors = kMostChanged;
    set.discard_ranges = 1;
  }
  return set;
}

}  // namespace cairn::ublk
