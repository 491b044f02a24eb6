// file, pipe and stdio: devices that are a pair of descriptors.
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "chardev/device.h"
#include "io/fd.h"

namespace cairn::chardev {

namespace {

Result<io::Fd> open_path(const std::string& path, int flags) {
  // Opening a FIFO for one direction alone would wait for the other end.
  io::Fd fd(::open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, 0666));
  if (!fd.valid()) {
    return fail_errno(errno, "Could not open '{}'", path);
  }
  return fd;
}

class DescriptorDevice final : public Device {
 public:
  DescriptorDevice(schema::ChardevBackendKind kind, io::Fd input, io::Fd output)
      : Device(kind), input_(std::move(input)), output_(std::move(output)) {}

  [[nodiscard]] io::Task<void> run(io::CancelToken token) override {
    DescriptorConnection connection(input_.get(), output_.valid() ? output_.get() : input_.get());
    co_await serve(connection, -1, token);
  }

 private:
  io::Fd input_;   // may be none: a file that is only written
  io::Fd output_;  // may be none: the input is written, too
};

class StdioDevice final : public Device {
 public:
  explicit StdioDevice(bool signals) : Device(schema::ChardevBackendKind::kStdio) {
    termios wanted{};
    if (signals || tcgetattr(STDIN_FILENO, &wanted) != 0) {
      return;
    }
    before_ = wanted;
    wanted.c_lflag &= ~static_cast<tcflag_t>(ISIG);
    tcsetattr(STDIN_FILENO, TCSANOW, &wanted);
  }
  ~StdioDevice() override {
    if (before_) {
      tcsetattr(STDIN_FILENO, TCSANOW, &*before_);
    }
  }

  [[nodiscard]] io::Task<void> run(io::CancelToken token) override {
    DescriptorConnection connection(STDIN_FILENO, STDOUT_FILENO);
    co_await serve(connection, -1, token);
  }

 private:
  std::optional<termios> before_;  // how the terminal was, where that was changed
};

}  // namespace

OpenResult open_file(const schema::ChardevFile& options) {
  const int how = options.append.value_or(false) ? O_APPEND : O_TRUNC;
  auto output = open_path(options.out, O_WRONLY | O_CREAT | how);
  if (!output) {
    return pass(output);
  }
  io::Fd input;
  if (options.in) {
    auto opened = open_path(*options.in, O_RDONLY);
    if (!opened) {
      return pass(opened);
    }
    input = std::move(*opened);
  }
  return std::make_unique<DescriptorDevice>(schema::ChardevBackendKind::kFile, std::move(input),
                                            std::move(*output));
}

OpenResult open_pipe(const schema::ChardevHostdev& options) {
  constexpr auto kKind = schema::ChardevBackendKind::kPipe;
  // For both directions, so that the other end may come and go.
  auto input = open_path(options.device + ".in", O_RDWR);
  auto output = open_path(options.device + ".out", O_RDWR);
  if (input && output) {
    return std::make_unique<DescriptorDevice>(kKind, std::move(*input), std::move(*output));
  }
  auto both = open_path(options.device, O_RDWR);
  if (!both) {
    return pass(both);
  }
  return std::make_unique<DescriptorDevice>(kKind, std::move(*both), io::Fd());
}

OpenResult open_stdio(const schema::ChardevStdio& options) {
  return std::make_unique<StdioDevice>(options.signal.value_or(true));
}

}  // namespace cairn::chardev
