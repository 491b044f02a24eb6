// pty: a pseudo terminal, of which we hold the master's side. Whoever opens the other side is the
// client; the kernel tells when it is closed again, and not when it is opened, which is looked for.
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdlib>
#include <utility>

#include <fmt/format.h>

#include "chardev/device.h"
#include "io/fd.h"
#include "io/timer.h"

namespace cairn::chardev {

namespace {

constexpr std::chrono::milliseconds kLookAgain(100);

class PtyDevice final : public Device {
 public:
  PtyDevice(io::Fd master, std::string name, std::string link)
      : Device(schema::ChardevBackendKind::kPty),
        master_(std::move(master)),
        name_(std::move(name)),
        link_(std::move(link)) {}
  ~PtyDevice() override {
    if (!link_.empty()) {
      unlink(link_.c_str());
    }
  }

  [[nodiscard]] std::string filename() const override { return fmt::format("pty:{}", name_); }
  [[nodiscard]] std::string_view terminal() const override { return name_; }
  [[nodiscard]] bool connected() const override {
    pollfd state{.fd = master_.get(), .events = 0, .revents = 0};
    return poll(&state, 1, 0) == 0 || (state.revents & POLLHUP) == 0;
  }

  [[nodiscard]] io::Task<void> run(io::CancelToken token) override {
    while (!token.cancelled()) {
      if (connected()) {
        DescriptorConnection connection(master_.get(), master_.get());
        co_await serve(connection, master_.get(), token);
      }
      const bool slept = co_await io::sleep_for(kLookAgain, token);
      static_cast<void>(slept);
    }
  }

 private:
  io::Fd master_;
  std::string name_;
  std::string link_;
};

}  // namespace

OpenResult open_pty(const schema::ChardevPty& options) {
  int master = -1;
  int slave = -1;
  std::array<char, PATH_MAX> name{};
  if (openpty(&master, &slave, name.data(), nullptr, nullptr) != 0) {
    return fail_errno(errno, "Failed to open pty");
  }
  io::Fd owner(master);
  termios terminal{};
  tcgetattr(slave, &terminal);
  cfmakeraw(&terminal);
  tcsetattr(slave, TCSAFLUSH, &terminal);
  // From its first close on the kernel says whether the other side is open.
  close(slave);
  fcntl(master, F_SETFD, FD_CLOEXEC);
  fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK);
  const std::string link = options.path.value_or("");
  if (!link.empty() && symlink(name.data(), link.c_str()) != 0) {
    return fail_errno(errno, "Failed to create PTY symlink '{}'", link);
  }
  return std::make_unique<PtyDevice>(std::move(owner), name.data(), link);
}

}  // namespace cairn::chardev
