// The kernel's driver, through /dev/ublk-control and io_uring.
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"
#include "exports/ublk/driver.h"
#include "io/call_on.h"
#include "io/fd.h"
#include "io/reactor_thread.h"
#include "io/timer.h"

namespace cairn::ublk {
namespace {

constexpr const char* kControlPath = "/dev/ublk-control";
// The files of a new device are made soon after it.
constexpr int kOpenAttempts = 100;
constexpr io::Duration kOpenPause = std::chrono::milliseconds(20);

int open_again(const std::string& path, int flags) {
  int fd = -1;
  do {
    fd = open(path.c_str(), flags | O_CLOEXEC);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

// Whether a list of the kernel's has a word that is a device, or one of its partitions.
bool is_named_in(const char* list, const std::string& device) {
  std::ifstream file(list);
  for (std::string word; file >> word;) {
    if (word.starts_with(device) && (word.size() == device.size() || word[device.size()] == 'p')) {
      return true;
    }
  }
  return false;
}

// The descriptions of a queue, as the kernel shows them.
class Mapping {
 public:
  Mapping(void* at, std::size_t bytes) : at_(at), bytes_(bytes) {}
  Mapping(Mapping&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), bytes_(other.bytes_) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (at_ != nullptr) {
      munmap(at_, bytes_);
    }
  }
  [[nodiscard]] const volatile RequestDescription* data() const {
    return static_cast<const volatile RequestDescription*>(at_);
  }

 private:
  void* at_;
  std::size_t bytes_;
};

class KernelChannel final : public Channel {
 public:
  KernelChannel(io::Fd fd, uint16_t depth) : fd_(std::move(fd)), depth_(depth) {}

  Result<void> map(uint16_t queues) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = align_up(depth_ * sizeof(RequestDescription), page);
    for (uint16_t queue = 0; queue < queues; ++queue) {
      const std::size_t offset = queue * align_up(kQueueStride, page);
      void* at = mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd_.get(),
                      static_cast<off_t>(offset));
      if (at == MAP_FAILED) {
        return fail_errno(errno, "Could not map the requests of a ublk device");
      }
      mappings_.emplace_back(at, bytes);
    }
    return {};
  }

  [[nodiscard]] RequestDescription description(uint16_t queue, uint16_t place) const override {
    const volatile RequestDescription& shown = mappings_[queue].data()[place];
    return {.kind_and_flags = shown.kind_and_flags,
            .sectors = shown.sectors,
            .first_sector = shown.first_sector};
  }
  [[nodiscard]] Result<std::unique_ptr<io::CommandRing>> make_ring(unsigned entries) override {
    return io::make_command_ring(fd_.get(), entries);
  }

 private:
  const io::Fd fd_;
  const uint16_t depth_;
  std::vector<Mapping> mappings_;
};

class KernelDriver final : public Driver {
 public:
  explicit KernelDriver(io::Fd fd) : fd_(std::move(fd)) {}

  io::Task<void> find_features() {
    uint64_t features = 0;
    encoded_ = true;  // the question is younger than the encoding
    Result<void> asked = co_await control(
        Control::kGetFeatures,
        {.length = sizeof features, .address = reinterpret_cast<uintptr_t>(&features)});
    features_ = asked ? features : 0;
    encoded_ = (features_ & kCommandEncoding) != 0;
  }

  [[nodiscard]] uint64_t features() const override { return features_; }

  // On a thread of its own: a command may wait for requests to be answered, which may need every
  // thread of a pool.
  [[nodiscard]] io::Task<Result<void>> control(Control command, ControlBody body) override {
    auto thread = io::ReactorThread::start("cairn-ublk", io::BackendKind::kEpoll, {});
    if (!thread) {
      co_return pass(thread);
    }
    auto call = io::call_on((*thread)->reactor(),
                            [this, command, body] { return carry_out(command, body); });
    co_return co_await call;
  }

  [[nodiscard]] io::Task<Result<std::unique_ptr<Channel>>> open_channel(
      const DeviceInfo& device) override {
    const std::string path = fmt::format("/dev/ublkc{}", device.device);
    int fd = -1;
    for (int i = 0; i < kOpenAttempts && fd < 0; ++i) {
      fd = open_again(path, O_RDWR);
      if (fd < 0 && errno != ENOENT && errno != EACCES) {
        break;
      }
      if (fd < 0) {
        (void)co_await io::sleep_for(kOpenPause);
      }
    }
    if (fd < 0) {
      co_return fail_errno(errno, "Could not open '{}'", path);
    }
    auto channel = std::make_unique<KernelChannel>(io::Fd(fd), device.queue_depth);
    if (auto mapped = channel->map(device.queues); !mapped) {
      co_return pass(mapped);
    }
    co_return channel;
  }

  // Without opening it, which may read it, and wait for us.
  [[nodiscard]] bool is_held(uint32_t device) const override {
    const std::string name = fmt::format("ublkb{}", device);
    std::error_code error;
    const std::filesystem::directory_iterator holders("/sys/block/" + name + "/holders", error);
    return (!error && holders != std::filesystem::directory_iterator()) ||
           is_named_in("/proc/self/mountinfo", "/dev/" + name) ||
           is_named_in("/proc/swaps", "/dev/" + name);
  }

 private:
  io::Task<Result<void>> carry_out(Control command, ControlBody body) const {
    auto ring = io::make_command_ring(fd_.get(), 1);
    if (!ring) {
      co_return pass(ring);
    }
    (*ring)->add(
        {.operation = number_of(command, encoded_), .body = std::as_bytes(std::span(&body, 1))});
    (*ring)->submit();
    std::optional<io::CommandRing::Completion> done = (*ring)->take();
    while (!done) {
      pollfd ready{.fd = (*ring)->descriptor(), .events = POLLIN, .revents = 0};
      poll(&ready, 1, -1);
      (*ring)->submit();
      done = (*ring)->take();
    }
    if (done->result < 0) {
      co_return std::unexpected(Error::from_errno(-done->result));
    }
    co_return Result<void>();
  }

  const io::Fd fd_;
  uint64_t features_ = 0;
  bool encoded_ = false;
};

}  // namespace

io::Task<Result<std::unique_ptr<Driver>>> open_kernel_driver() {
  const int fd = open_again(kControlPath, O_RDWR);
  if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO)) {
    co_return fail_errno(errno,
                         "Could not open '{}': ublk needs Linux 6.0 or later with the module "
                         "ublk_drv loaded",
                         kControlPath);
  }
  if (fd < 0) {
    co_return fail_errno(errno, "Could not open '{}'", kControlPath);
  }
  auto driver = std::make_unique<KernelDriver>(io::Fd(fd));
  co_await driver->find_features();
  co_return driver;
}

}  // namespace cairn::ublk
