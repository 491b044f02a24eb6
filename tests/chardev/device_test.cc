// Devices of each kind, run with a frontend that answers, and what they refuse.
#include "chardev/device.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "chardev/ringbuf.h"
#include "io/event.h"
#include "io/fd.h"
#include "io/reactor.h"
#include "io/task_group.h"

namespace cairn::chardev {
namespace {

// Says hello, and answers each piece that it reads with the same in brackets.
class Echo final : public Frontend {
 public:
  [[nodiscard]] io::Task<void> serve(Connection& connection, io::CancelToken token) override {
    ++clients;
    const Result<void> greeted = co_await connection.write_all("hello\n", token);
    bool going_on = greeted.has_value();
    if (going_on) {
      came.set();
    }
    std::array<std::byte, 64> buffer;
    while (going_on) {
      const Result<size_t> count = co_await connection.read_some(buffer, token);
      going_on = count && *count != 0;
      if (going_on) {
        const std::string text(reinterpret_cast<const char*>(buffer.data()), *count);
        const std::string reply = "[" + text + "]";
        const Result<void> written = co_await connection.write_all(reply, token);
        going_on = written.has_value();
        answered.set();
      }
    }
    ended.set();
  }

  int clients = 0;
  io::Event came;
  io::Event answered;
  io::Event ended;
};

class DeviceTest : public ::testing::Test {
 protected:
  DeviceTest() {
    const char* wanted = std::getenv("CAIRN_IO");
    auto kind = io::parse_backend_kind(wanted ? wanted : "auto");
    reactor_ = std::move(*io::Reactor::create(*kind));
    std::string name = (std::filesystem::temp_directory_path() / "cairn-chardev-XXXXXX").string();
    folder_ = mkdtemp(name.data());
  }

 public:
  ~DeviceTest() override { std::filesystem::remove_all(folder_); }

 protected:
  [[nodiscard]] std::string path(std::string_view name) const { return (folder_ / name).string(); }
  [[nodiscard]] std::string content(std::string_view name) const {
    std::ostringstream text;
    text << std::ifstream(path(name)).rdbuf();
    return text.str();
  }
  static void put(const std::string& path, std::string_view text) { std::ofstream(path) << text; }

  // Runs the device until `event`, then cancels it.
  void run_until(Device& device, io::Event& event) { reactor_->block_on(run(device, event)); }
  static io::Task<void> run(Device& device, io::Event& event) {
    io::CancelSource ending;
    io::TaskGroup tasks;
    tasks.spawn(device.run(ending.token()));
    co_await event.wait();
    ending.cancel();
    co_await tasks.join();
  }

  std::unique_ptr<io::Reactor> reactor_;
  std::filesystem::path folder_;
  Echo echo_;
};

TEST_F(DeviceTest, FileIsWrittenFromItsBeginningOrItsEnd) {
  put(path("out"), "a longer text than what comes\n");
  put(path("in"), "ping");
  for (const bool append : {false, true}) {
    schema::ChardevFile options;
    options.out = path("out");
    options.in = path("in");
    options.append = append;
    auto device = open_file(options);
    ASSERT_TRUE(device.has_value()) << device.error().message();
    EXPECT_EQ((*device)->filename(), "file");
    Echo echo;
    (*device)->attach(echo);
    run_until(**device, echo.ended);
  }
  EXPECT_EQ(content("out"), "hello\n[ping]hello\n[ping]");
}

TEST_F(DeviceTest, FileWithoutInputHasNoEnd) {
  schema::ChardevFile options;
  options.out = path("out");
  auto device = open_file(options);
  (*device)->attach(echo_);
  run_until(**device, echo_.came);
  EXPECT_EQ(content("out"), "hello\n");
}

TEST_F(DeviceTest, FileSaysWhatCanNotBeOpened) {
  schema::ChardevFile options;
  options.out = path("no/where");
  EXPECT_EQ(open_file(options).error().message(),
            "Could not open '" + options.out + "': No such file or directory");
  options.out = path("out");
  options.in = path("none");
  EXPECT_EQ(open_file(options).error().message(),
            "Could not open '" + *options.in + "': No such file or directory");
}

TEST_F(DeviceTest, PipeTakesTwoFifosOrOne) {
  ASSERT_EQ(mkfifo(path("p.in").c_str(), 0600), 0);
  ASSERT_EQ(mkfifo(path("p.out").c_str(), 0600), 0);
  auto device = open_pipe({{}, path("p")});
  ASSERT_TRUE(device.has_value()) << device.error().message();
  (*device)->attach(echo_);
  const io::Fd to(open(path("p.in").c_str(), O_WRONLY | O_CLOEXEC));
  const io::Fd from(open(path("p.out").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(write(to.get(), "x", 1), 1);
  run_until(**device, echo_.answered);
  std::array<char, 32> buffer{};
  EXPECT_EQ(read(from.get(), buffer.data(), buffer.size()), 9);
  EXPECT_STREQ(buffer.data(), "hello\n[x]");

  ASSERT_EQ(mkfifo(path("one").c_str(), 0600), 0);
  EXPECT_TRUE(open_pipe({{}, path("one")}).has_value());
  EXPECT_EQ(open_pipe({{}, path("none")}).error().message(),
            "Could not open '" + path("none") + "': No such file or directory");
}

TEST_F(DeviceTest, PtyServesWhoeverOpensIt) {
  schema::ChardevPty options;
  options.path = path("link");
  auto device = open_pty(options);
  ASSERT_TRUE(device.has_value()) << device.error().message();
  EXPECT_EQ((*device)->filename(), "pty:" + std::string((*device)->terminal()));
  EXPECT_FALSE((*device)->connected());
  (*device)->attach(echo_);
  {
    const io::Fd terminal(open(path("link").c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    ASSERT_TRUE(terminal.valid());
    EXPECT_TRUE((*device)->connected());
    ASSERT_EQ(write(terminal.get(), "x\n", 2), 2);
    run_until(**device, echo_.answered);
    std::array<char, 32> buffer{};
    // A terminal that is raw changes nothing.
    EXPECT_EQ(read(terminal.get(), buffer.data(), buffer.size()), 10);
    EXPECT_STREQ(buffer.data(), "hello\n[x\n]");
  }
  EXPECT_FALSE((*device)->connected());
  EXPECT_EQ(open_pty(options).error().message(),
            "Failed to create PTY symlink '" + path("link") + "': File exists");
  device->reset();
  EXPECT_FALSE(std::filesystem::is_symlink(path("link")));
}

TEST_F(DeviceTest, RingBufferKeepsTheNewest) {
  RingBuffer ring(schema::ChardevBackendKind::kRingbuf, 8);
  EXPECT_EQ(ring.read(10), "");
  ring.write("hello");
  EXPECT_EQ(ring.read(2), "he");
  ring.write("0123456789");
  EXPECT_EQ(ring.read(3), "234");
  ring.write("ab");
  EXPECT_EQ(ring.read(100), "56789ab");
  EXPECT_EQ(ring.read(100), "");
}

TEST_F(DeviceTest, RingBufferHoldsWhatItsFrontendSays) {
  auto device = open_ringbuf({}, schema::ChardevBackendKind::kMemory);
  (*device)->attach(echo_);
  run_until(**device, echo_.came);
  EXPECT_EQ(dynamic_cast<RingBuffer&>(**device).read(100), "hello\n");
  EXPECT_EQ((*device)->filename(), "memory");
}

TEST_F(DeviceTest, RingBufferSizesArePowersOfTwoWithinReason) {
  schema::ChardevRingbuf options;
  for (const int64_t size : {int64_t{15}, int64_t{-4}, INT64_MIN}) {
    options.size = size;
    EXPECT_EQ(open_ringbuf(options, schema::ChardevBackendKind::kRingbuf).error().message(),
              "size of ringbuf chardev must be power of two");
  }
  options.size = int64_t{1} << 40;
  EXPECT_EQ(open_ringbuf(options, schema::ChardevBackendKind::kRingbuf).error().message(),
            "size of ringbuf chardev must be at most 67108864 bytes");
}

TEST_F(DeviceTest, LogGetsACopyOfWhatIsWritten) {
  put(path("log"), "before\n");
  schema::ChardevCommon common;
  common.logfile = path("log");
  common.logappend = true;
  auto log = Log::open(common);
  ASSERT_TRUE(log.has_value());
  auto device = open_ringbuf({}, schema::ChardevBackendKind::kRingbuf);
  (*device)->set_log(std::move(*log));
  (*device)->attach(echo_);
  run_until(**device, echo_.came);
  EXPECT_EQ(content("log"), "before\nhello\n");
}

TEST_F(DeviceTest, LogTellsTheTimeOfEachLine) {
  schema::ChardevCommon common;
  common.logfile = path("log");
  common.logtimestamp = true;
  {
    auto log = Log::open(common);
    log->write("one\ntw");
    log->write("o\n");
  }
  const std::string text = content("log");
  EXPECT_EQ(text.substr(text.find(' '), 5), " one\n");
  EXPECT_EQ(text.substr(text.rfind(' ')), " two\n");
  EXPECT_EQ(text.find('Z'), 23U);
  common.logfile = path("no/where");
  EXPECT_EQ(Log::open(common).error().message(),
            "Could not create '" + *common.logfile + "': No such file or directory");
}

}  // namespace
}  // namespace cairn::chardev
