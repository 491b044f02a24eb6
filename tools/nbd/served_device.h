// ServedDevice: the kernel as a client of the program's own server, by a device (-c).
//
// On the reactor's thread; a thread of its own stays in the kernel.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "io/event.h"
#include "io/reactor.h"
#include "io/socket.h"
#include "io/task.h"
#include "tools/nbd/kernel_device.h"
#include "tools/nbd/options.h"

namespace cairn::tools {

class ServedDevice {
 public:
  // `stop` is set when the device is disconnected, and outlives this.
  explicit ServedDevice(io::Event& stop) : end_(stop) {}

  // Queues at the server as its first client; `path` is where that listens.
  [[nodiscard]] io::Task<Result<void>> reach(std::string path);
  // Connects the device that the options name to the export, once the server admits clients.
  [[nodiscard]] io::Task<Result<void>> connect(const NbdOptions& options);

  // Disconnects it if it is connected, while the server still runs. Fails with what had ended it
  // before its time.
  [[nodiscard]] io::Task<Result<void>> end();

 private:
  // Comes from the device's thread.
  class End final : public io::RemoteWork {
   public:
    explicit End(io::Event& stop) : stop_(stop) {}
    void run() override {
      come.set();
      stop_.set();
    }
    io::Event come;

   private:
    io::Event& stop_;
  };

  End end_;
  io::Stream stream_;  // until the kernel has it
  std::unique_ptr<KernelDevice> device_;
};

// What the kernel needs of the handshake, which it does not do itself: chooses the export `name` on
// `stream`, on which requests and simple replies follow.
[[nodiscard]] io::Task<Result<DeviceShape>> choose_export(const io::Stream& stream,
                                                          std::string name);

}  // namespace cairn::tools
