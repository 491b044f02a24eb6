// Device: a character device, and the Frontend that talks through it.
//
// A device is opened, then run by its owner until that cancels it; meanwhile the frontend is handed
// one connection after the other. A device without a frontend keeps its connections open, and
// neither reads from nor writes to them.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "chardev/connection.h"
#include "chardev/log.h"
#include "chardev/tls.h"
#include "io/cancel.h"
#include "io/task.h"
#include "schema/types_char.h"

namespace cairn::chardev {

class Frontend {
 public:
  Frontend() = default;
  Frontend(const Frontend&) = delete;
  Frontend& operator=(const Frontend&) = delete;
  virtual ~Frontend() = default;

  // Talks until the other end is gone or `token` is cancelled. `connection` outlives the task.
  [[nodiscard]] virtual io::Task<void> serve(Connection& connection, io::CancelToken token) = 0;
};

class Device {
 public:
  explicit Device(schema::ChardevBackendKind kind) : kind_(kind) {}
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  [[nodiscard]] schema::ChardevBackendKind kind() const { return kind_; }
  // What it is connected to, for people.
  [[nodiscard]] virtual std::string filename() const;
  // Something beside the frontend is at the other end.
  [[nodiscard]] virtual bool connected() const { return true; }
  // The name of a pseudo terminal; empty for what is none.
  [[nodiscard]] virtual std::string_view terminal() const { return {}; }

  // Until it is cancelled, or there is nobody to talk to any more. Called once.
  [[nodiscard]] virtual io::Task<void> run(io::CancelToken token) = 0;

  // What talks through it: one at most, and from before it runs.
  [[nodiscard]] bool in_use() const { return frontend_ != nullptr; }
  void attach(Frontend& frontend) { frontend_ = &frontend; }

  void set_log(Log log) { log_.emplace(std::move(log)); }

 protected:
  // Hands `connection` to the frontend. Without one, waits until `token` is cancelled or `fd`, when
  // it is not -1, hangs up.
  [[nodiscard]] io::Task<void> serve(Connection& connection, int fd, io::CancelToken token);

 private:
  const schema::ChardevBackendKind kind_;
  Frontend* frontend_ = nullptr;
  std::optional<Log> log_;
};

// How a device is opened: one function a kind, in the file of that kind. None takes a reference
// that it keeps beyond its end.
using OpenResult = Result<std::unique_ptr<Device>>;

[[nodiscard]] OpenResult open_file(const schema::ChardevFile& options);
[[nodiscard]] OpenResult open_pipe(const schema::ChardevHostdev& options);
[[nodiscard]] OpenResult open_pty(const schema::ChardevPty& options);
[[nodiscard]] OpenResult open_null();
[[nodiscard]] OpenResult open_stdio(const schema::ChardevStdio& options);
[[nodiscard]] OpenResult open_ringbuf(const schema::ChardevRingbuf& options,
                                      schema::ChardevBackendKind kind);
// Listens or connects, and waits for the first client when that is asked for. `label` is for
// messages; `tls` outlives the device.
[[nodiscard]] io::Task<OpenResult> open_socket(schema::ChardevSocket options, std::string label,
                                               const TlsSource& tls, io::CancelToken token);

}  // namespace cairn::chardev
