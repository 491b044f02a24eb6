#include "tools/nbd/kernel_device.h"

#include <fcntl.h>
#include <linux/nbd.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <utility>

#include "base/sector.h"

namespace cairn::tools {
namespace {

class KernelCalls final : public DeviceCalls {
 public:
  Result<io::Fd> open(const std::string& path) override {
    io::Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd.valid()) {
      return std::unexpected(Error::from_errno(errno));
    }
    return fd;
  }
  Result<void> control(int device, unsigned long request, unsigned long argument) override {
    if (ioctl(device, request, argument) < 0) {
      return std::unexpected(Error::from_errno(errno));
    }
    return {};
  }
};

}  // namespace

DeviceCalls& kernel_device_calls() {
  static KernelCalls calls;
  return calls;
}

Result<std::unique_ptr<KernelDevice>> KernelDevice::connect(DeviceCalls& calls, std::string path,
                                                            io::Fd socket, DeviceShape shape) {
  auto opened = calls.open(path);
  if (!opened) {
    return fail_errno(opened.error().code(), "Failed to open {}", path);
  }
  std::unique_ptr<KernelDevice> device(
      new KernelDevice(calls, std::move(path), std::move(*opened), std::move(socket)));
  if (auto ready = device->set_up(shape); !ready) {
    return pass(ready);
  }
  return device;
}

Result<void> KernelDevice::set_up(DeviceShape shape) {
  struct Step {
    unsigned long request;
    unsigned long argument;
    std::string_view what;
  };
  // The socket comes first: a device that is in use already is left alone.
  const Step steps[] = {
      {NBD_SET_SOCK, static_cast<unsigned long>(socket_.get()), "NBD socket"},
      {NBD_SET_BLKSIZE, kSector, "block size"},
      {NBD_SET_SIZE_BLOCKS, static_cast<unsigned long>(shape.size / kSector), "size"},
      {NBD_SET_FLAGS, shape.flags, "flags"},
  };
  for (const Step& step : steps) {
    const auto done = calls_.control(device_.get(), step.request, step.argument);
    // A kernel that does not know flags can do without.
    if (!done && !(step.request == NBD_SET_FLAGS && done.error().code() == ENOTTY)) {
      if (step.request != NBD_SET_SOCK) {
        leave();
      }
      device_.reset();
      return fail_errno(done.error().code(), "Failed to set {} of {}", step.what, path_);
    }
  }
  return {};
}

KernelDevice::~KernelDevice() {
  if (thread_.joinable()) {
    disconnect();
    thread_.join();
  }
  if (device_.valid()) {
    leave();
  }
}

// Gives the device back: what is queued fails, the socket is nobody's any more.
void KernelDevice::leave() {
  static_cast<void>(calls_.control(device_.get(), NBD_CLEAR_QUE, 0));
  static_cast<void>(calls_.control(device_.get(), NBD_CLEAR_SOCK, 0));
  device_.reset();
  socket_.reset();
}

void KernelDevice::serve(std::function<void()> on_end) {
  thread_ = std::thread([this, on_end = std::move(on_end)] {
    auto done = calls_.control(device_.get(), NBD_DO_IT, 0);
    // EPIPE is what the kernel calls a connection that has come to its end.
    if (!done && done.error().code() != EPIPE) {
      outcome_ = fail_errno(done.error().code(), "Failed to serve {}", path_);
    }
    on_end();
  });
}

void KernelDevice::disconnect() const {
  static_cast<void>(calls_.control(device_.get(), NBD_DISCONNECT, 0));
}

Result<void> KernelDevice::finish() {
  thread_.join();
  leave();
  return outcome_;
}

Result<void> disconnect_device(DeviceCalls& calls, const std::string& path) {
  auto device = calls.open(path);
  if (!device) {
    return fail_errno(device.error().code(), "Cannot open {}", path);
  }
  static_cast<void>(calls.control(device->get(), NBD_CLEAR_QUE, 0));
  auto done = calls.control(device->get(), NBD_DISCONNECT, 0);
  static_cast<void>(calls.control(device->get(), NBD_CLEAR_SOCK, 0));
  return done ? done : fail_errno(done.error().code(), "Cannot disconnect {}", path);
}

}  // namespace cairn::tools
