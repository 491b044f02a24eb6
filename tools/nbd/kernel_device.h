// A device of the kernel (/dev/nbdN) with an export behind it: set up and served by ioctls of
// linux/nbd.h.
//
// The kernel is a client that has done its handshake already: it is handed the socket of a
// connection on which requests may follow, and takes simple replies. It serves the device as long
// as one thread stays in an ioctl.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/result.h"
#include "io/fd.h"

namespace cairn::tools {

// What is asked of the kernel, so that tests can answer in its place.
class DeviceCalls {
 public:
  DeviceCalls() = default;
  DeviceCalls(const DeviceCalls&) = delete;
  DeviceCalls& operator=(const DeviceCalls&) = delete;
  virtual ~DeviceCalls() = default;
  // As open(2) and ioctl(2): an errno, or the result.
  [[nodiscard]] virtual Result<io::Fd> open(const std::string& path) = 0;
  [[nodiscard]] virtual Result<void> control(int device, unsigned long request,
                                             unsigned long argument) = 0;
};
[[nodiscard]] DeviceCalls& kernel_device_calls();

// What the device is to be; from the handshake.
struct DeviceShape {
  uint64_t size = 0;   // bytes
  uint16_t flags = 0;  // "Transmission flags"
};

class KernelDevice {
 public:
  // Has the kernel take `socket`; a failure leaves the device as it was. Messages name the device.
  [[nodiscard]] static Result<std::unique_ptr<KernelDevice>> connect(DeviceCalls& calls,
                                                                     std::string path,
                                                                     io::Fd socket,
                                                                     DeviceShape shape);
  KernelDevice(const KernelDevice&) = delete;
  KernelDevice& operator=(const KernelDevice&) = delete;
  // Disconnects what is still served, and waits until it is not. Whoever serves the socket on this
  // very thread disconnects first, and waits for on_end().
  ~KernelDevice();

  // Serves the device on a thread. `on_end` is called there when it is over: somebody has
  // disconnected it, the server has gone, or an error, with which finish() then fails. Once.
  void serve(std::function<void()> on_end);
  // Asks for the end.
  void disconnect() const;
  // After on_end().
  [[nodiscard]] Result<void> finish();

 private:
  KernelDevice(DeviceCalls& calls, std::string path, io::Fd device, io::Fd socket)
      : calls_(calls),
        path_(std::move(path)),
        device_(std::move(device)),
        socket_(std::move(socket)) {}
  [[nodiscard]] Result<void> set_up(DeviceShape shape);
  void leave();

  DeviceCalls& calls_;
  const std::string path_;
  io::Fd device_;
  io::Fd socket_;  // the kernel's end
  std::thread thread_;
  Result<void> outcome_;  // of the thread
};

// Takes whatever serves `path` away from it (-d).
[[nodiscard]] Result<void> disconnect_device(DeviceCalls& calls, const std::string& path);

}  // namespace cairn::tools
