#include "exports/ublk/served_device.h"

#include <utility>

#include "io/call_on.h"

namespace cairn::ublk {

ServedDevice::ServedDevice(std::unique_ptr<Driver> driver, const DeviceSettings& settings,
                           block::Edge& root, exports::Thread thread)
    : thread_(std::move(thread)),
      driver_(std::move(driver)),
      node_(root, home_, thread_ != nullptr),
      requests_(node_, {.writable = settings.writable, .writethrough = settings.writethrough}) {}

io::Task<Result<std::unique_ptr<ServedDevice>>> ServedDevice::start(std::unique_ptr<Driver> driver,
                                                                    DeviceSettings settings,
                                                                    block::Edge& root,
                                                                    exports::Thread thread) {
  std::unique_ptr<ServedDevice> served(
      new ServedDevice(std::move(driver), settings, root, std::move(thread)));
  auto device = co_await Device::create(*served->driver_, settings, root.length());
  if (!device) {
    co_return pass(device);
  }
  served->device_ = std::move(*device);
  Result<void> begun = co_await served->begin();
  if (!begun) {
    co_await served->device_->remove();
    co_return pass(begun);
  }
  co_return served;
}

// Leaves nobody serving when it fails.
io::Task<Result<void>> ServedDevice::begin() {
  auto offering = io::call_on(reactor(), [this] { return offer_places(); });
  Result<void> offered = co_await offering;
  if (!offered) {
    co_return offered;
  }
  // Starting reads the device.
  serving_.spawn(serve());
  Result<void> started = co_await device_->start();
  if (!started) {
    giving_up_.cancel();
    co_await serving_.join();
  }
  co_return started;
}

io::Task<Result<void>> ServedDevice::offer_places() {
  auto places = RequestPlaces::create(device_->channel(), device_->info(), requests_);
  if (!places) {
    co_return pass(places);
  }
  places_ = std::move(*places);
  co_return Result<void>();
}

io::Task<void> ServedDevice::serve() {
  auto answering = io::call_on(
      reactor(), [this](io::CancelToken token) { return answer(token); }, giving_up_.token());
  co_await answering;
}

io::Task<void> ServedDevice::answer(io::CancelToken token) {
  co_await places_->run(token);
  places_.reset();
}

io::Task<void> ServedDevice::stop() {
  co_await device_->stop();
  co_await serving_.join();
  co_await device_->remove();
}

io::Task<Result<void>> ServedDevice::set_length(uint64_t length) {
  return device_->set_length(length);
}

}  // namespace cairn::ublk
