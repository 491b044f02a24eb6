// Devices of the kernel with somebody else in the kernel's place, who has every ioctl fail in turn.
#include "tools/nbd/kernel_device.h"

#include <fcntl.h>
#include <linux/nbd.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace cairn::tools {
namespace {

// A device that remembers what it was told; NBD_DO_IT takes until NBD_DISCONNECT.
class SimulatedDevice final : public DeviceCalls {
 public:
  using Call = std::pair<unsigned long, unsigned long>;

  Result<io::Fd> open(const std::string& path) override {
    if (path != "/dev/nbd7") {
      return std::unexpected(Error::from_errno(ENOENT));
    }
    return io::Fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
  }

  Result<void> control(int device, unsigned long request, unsigned long argument) override {
    EXPECT_GE(fcntl(device, F_GETFD), 0) << "of an open device";
    std::unique_lock guard(lock_);
    calls_.emplace_back(request, argument);
    if (request == NBD_DISCONNECT) {
      over_ = true;
      changed_.notify_all();
    }
    if (request == NBD_DO_IT && !failures.contains(request)) {
      changed_.wait(guard, [this] { return over_; });
    }
    const auto failure = failures.find(request);
    return failure == failures.end() ? Result<void>()
                                     : std::unexpected(Error::from_errno(failure->second));
  }

  std::vector<unsigned long> requests() {
    const std::scoped_lock guard(lock_);
    std::vector<unsigned long> told;
    for (const Call& call : calls_) {
      told.push_back(call.first);
    }
    return told;
  }
  std::vector<Call> calls() {
    const std::scoped_lock guard(lock_);
    return calls_;
  }

  std::map<unsigned long, int> failures;  // errno by request; set before it is used

 private:
  std::mutex lock_;
  std::condition_variable changed_;
  std::vector<Call> calls_;
  bool over_ = false;
};

using Requests = std::vector<unsigned long>;

class KernelDeviceTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<KernelDevice>> connect(DeviceShape shape, std::string path = "/dev/nbd7") {
    io::Fd socket(::open("/dev/zero", O_RDWR | O_CLOEXEC));
    socket_ = socket.get();
    return KernelDevice::connect(device_, std::move(path), std::move(socket), shape);
  }
  [[nodiscard]] bool socket_is_open() const { return fcntl(socket_, F_GETFD) >= 0; }

  SimulatedDevice device_;
  int socket_ = -1;
};

TEST_F(KernelDeviceTest, IsToldSizeAndFlagsBeforeItServes) {
  auto made = connect({.size = 5 * 512 + 100, .flags = 0x3});
  ASSERT_TRUE(made);
  const std::vector<SimulatedDevice::Call> expected = {
      {NBD_SET_SOCK, static_cast<unsigned long>(socket_)},
      {NBD_SET_BLKSIZE, 512},
      {NBD_SET_SIZE_BLOCKS, 5},
      {NBD_SET_FLAGS, 3}};
  EXPECT_EQ(device_.calls(), expected);
  EXPECT_TRUE(socket_is_open());
}

TEST_F(KernelDeviceTest, ServesUntilItIsDisconnectedAndGivesTheDeviceBack) {
  auto made = connect({.size = 512, .flags = 1});
  ASSERT_TRUE(made);
  std::promise<void> over;
  (*made)->serve([&over] { over.set_value(); });
  (*made)->disconnect();
  over.get_future().wait();
  EXPECT_TRUE((*made)->finish());
  const Requests told = device_.requests();
  ASSERT_EQ(told.size(), 8U);
  EXPECT_EQ(Requests(told.begin() + 6, told.end()), (Requests{NBD_CLEAR_QUE, NBD_CLEAR_SOCK}));
  EXPECT_FALSE(socket_is_open());
}

TEST_F(KernelDeviceTest, IsDisconnectedWhenItIsGivenUp) {
  {
    auto made = connect({.size = 512, .flags = 1});
    ASSERT_TRUE(made);
    (*made)->serve([] {});
  }
  const Requests told = device_.requests();
  EXPECT_NE(std::ranges::find(told, NBD_DISCONNECT), told.end());
  EXPECT_FALSE(socket_is_open());
}

TEST_F(KernelDeviceTest, ADeviceThatIsNotThereIsNamed) {
  const auto made = connect({.size = 512, .flags = 1}, "/dev/nbd8");
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().message(), "Failed to open /dev/nbd8: No such file or directory");
  EXPECT_FALSE(socket_is_open());
}

TEST_F(KernelDeviceTest, ADeviceInUseIsLeftAlone) {
  device_.failures[NBD_SET_SOCK] = EBUSY;
  const auto made = connect({.size = 512, .flags = 1});
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().message(),
            "Failed to set NBD socket of /dev/nbd7: Device or resource busy");
  EXPECT_EQ(device_.requests(), Requests{NBD_SET_SOCK});
  EXPECT_FALSE(socket_is_open());
}

TEST_F(KernelDeviceTest, AFailureOnTheWayTakesBackWhatWasSet) {
  for (const auto& [request, what] :
       std::map<unsigned long, std::string>{{NBD_SET_BLKSIZE, "block size"},
                                            {NBD_SET_SIZE_BLOCKS, "size"},
                                            {NBD_SET_FLAGS, "flags"}}) {
    device_.failures = {{request, EINVAL}};
    const auto made = connect({.size = 512, .flags = 1});
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().message(), "Failed to set " + what + " of /dev/nbd7: Invalid argument");
    const Requests told = device_.requests();
    EXPECT_EQ(Requests(told.end() - 3, told.end()),
              (Requests{request, NBD_CLEAR_QUE, NBD_CLEAR_SOCK}));
    EXPECT_FALSE(socket_is_open());
  }
}

TEST_F(KernelDeviceTest, AKernelWithoutFlagsDoesWithout) {
  device_.failures[NBD_SET_FLAGS] = ENOTTY;
  EXPECT_TRUE(connect({.size = 512, .flags = 1}));
}

TEST_F(KernelDeviceTest, AnErrorWhileItServesIsTold) {
  for (const auto& [code, message] : std::map<int, std::string>{
           {EPIPE, ""}, {EIO, "Failed to serve /dev/nbd7: Input/output error"}}) {
    device_.failures = {{NBD_DO_IT, code}};
    auto made = connect({.size = 512, .flags = 1});
    ASSERT_TRUE(made);
    std::promise<void> over;
    (*made)->serve([&over] { over.set_value(); });
    over.get_future().wait();
    const auto finished = (*made)->finish();
    EXPECT_EQ(finished ? "" : finished.error().message(), message);
  }
}

TEST_F(KernelDeviceTest, WhoeverServesItCanBeSentAway) {
  EXPECT_TRUE(disconnect_device(device_, "/dev/nbd7"));
  EXPECT_EQ(device_.requests(), (Requests{NBD_CLEAR_QUE, NBD_DISCONNECT, NBD_CLEAR_SOCK}));
  device_.failures[NBD_DISCONNECT] = ENOTTY;
  const auto other = disconnect_device(device_, "/dev/nbd7");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().message(), "Cannot disconnect /dev/nbd7: Inappropriate ioctl for device");
  const auto absent = disconnect_device(device_, "/dev/nbd8");
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().message(), "Cannot open /dev/nbd8: No such file or directory");
}

}  // namespace
}  // namespace cairn::tools
