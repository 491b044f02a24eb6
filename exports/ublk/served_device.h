// ServedDevice: a block device of the kernel together with the task that answers its requests from
// a node.
//
// All of it is called at home, where the node is; requests are taken on the thread that there may
// be for it.
#pragma once

#include <memory>

#include "base/result.h"
#include "block/node.h"
#include "exports/export.h"
#include "exports/ublk/block_requests.h"
#include "exports/ublk/device.h"
#include "exports/ublk/driver.h"
#include "exports/ublk/request_places.h"
#include "io/cancel.h"
#include "io/task.h"
#include "io/task_group.h"

namespace cairn::ublk {

class ServedDevice {
 public:
  // The block device is there when this is done. Nothing is left of it after a failure. `root`
  // outlives this.
  [[nodiscard]] static io::Task<Result<std::unique_ptr<ServedDevice>>> start(
      std::unique_ptr<Driver> driver, DeviceSettings settings, block::Edge& root,
      exports::Thread thread);
  ServedDevice(const ServedDevice&) = delete;
  ServedDevice& operator=(const ServedDevice&) = delete;
  // After stop().
  ~ServedDevice() = default;

  // Takes the block device away, answers what was asked of it, and removes it.
  [[nodiscard]] io::Task<void> stop();

  // See Device.
  [[nodiscard]] bool is_held() const { return device_->is_held(); }
  [[nodiscard]] io::Task<Result<void>> set_length(uint64_t length);

 private:
  ServedDevice(std::unique_ptr<Driver> driver, const DeviceSettings& settings, block::Edge& root,
               exports::Thread thread);

  [[nodiscard]] io::Reactor& reactor() const { return thread_ ? *thread_ : home_; }
  [[nodiscard]] io::Task<Result<void>> begin();
  [[nodiscard]] io::Task<void> serve();
  // On the thread where requests are taken.
  [[nodiscard]] io::Task<Result<void>> offer_places();
  [[nodiscard]] io::Task<void> answer(io::CancelToken token);

  io::Reactor& home_ = io::Reactor::current();
  const exports::Thread thread_;
  std::unique_ptr<Driver> driver_;
  std::unique_ptr<Device> device_;
  const exports::NodeAccess node_;
  const BlockRequests requests_;
  std::unique_ptr<RequestPlaces> places_;
  io::CancelSource giving_up_;
  io::TaskGroup serving_;
};

}  // namespace cairn::ublk
