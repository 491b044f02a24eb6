#include "tools/nbd/served_device.h"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/nbd_protocol.h"
#include "io/iovector.h"

namespace cairn::tools {
namespace {

constexpr std::size_t kGreetingSize = 18;
constexpr uint32_t kFixedWithoutZeroes = 3;  // the client's flags

// A descriptor that outlives the stream.
Result<io::Fd> copy_of(const io::Stream& stream) {
  io::Fd copy(fcntl(stream.fd(), F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) {
    return fail_errno(errno, "Could not copy a descriptor");
  }
  return copy;
}

}  // namespace

// "NBD_OPT_EXPORT_NAME": it asks for no other form of replies than the oldest.
io::Task<Result<DeviceShape>> choose_export(const io::Stream& stream, std::string name) {
  std::array<std::byte, kGreetingSize> greeting;
  Result<void> step = co_await stream.read_exact(greeting);
  if (!step) {
    co_return pass(step);
  }
  std::array<std::byte, 20> question;
  store_be(question.data(), kFixedWithoutZeroes);
  store_be(question.data() + 4, nbd::kOptionMagic);
  store_be(question.data() + 12, static_cast<uint32_t>(nbd::Option::kExportName));
  store_be(question.data() + 16, static_cast<uint32_t>(name.size()));
  io::IoVector message(question.data(), question.size());
  if (!name.empty()) {
    message.append(reinterpret_cast<std::byte*>(name.data()), name.size());
  }
  step = co_await stream.write_all(std::move(message));
  if (!step) {
    co_return pass(step);
  }
  std::array<std::byte, 10> answer;
  step = co_await stream.read_exact(answer);
  if (!step) {
    co_return pass(step);
  }
  co_return DeviceShape{.size = load_be<uint64_t>(answer.data()),
                        .flags = load_be<uint16_t>(answer.data() + 8)};
}

io::Task<Result<void>> ServedDevice::reach(std::string path) {
  auto connecting = io::Stream::connect(io::SocketAddress::unix_path(std::move(path)));
  Result<io::Stream> stream = co_await std::move(connecting);
  if (!stream) {
    co_return pass(stream);
  }
  stream_ = std::move(*stream);
  co_return Result<void>();
}

io::Task<Result<void>> ServedDevice::connect(const NbdOptions& options) {
  const io::Stream stream = std::move(stream_);
  auto choosing = choose_export(stream, options.export_name.value_or(""));
  Result<DeviceShape> shape = co_await std::move(choosing);
  if (!shape) {
    co_return pass(shape);
  }
  auto socket = copy_of(stream);
  if (!socket) {
    co_return pass(socket);
  }
  auto device =
      KernelDevice::connect(kernel_device_calls(), options.device, std::move(*socket), *shape);
  if (!device) {
    co_return pass(device);
  }
  device_ = std::move(*device);
  io::Reactor& home = io::Reactor::current();
  device_->serve([this, &home] { home.post(end_); });
  if (options.verbose) {
    fmt::print(stderr, "NBD device {} is now connected to {}\n", options.device,
               options.image.text);
  }
  co_return Result<void>();
}

io::Task<Result<void>> ServedDevice::end() {
  if (device_ == nullptr) {
    co_return Result<void>();
  }
  if (!end_.come.is_set()) {
    device_->disconnect();
  }
  co_await end_.come.wait();
  Result<void> finished = device_->finish();
  device_.reset();
  co_return finished;
}

}  // namespace cairn::tools
