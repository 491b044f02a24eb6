// The conversation with the kernel, whose part a socket plays that keeps messages apart.
#include "exports/fuse/session.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "io/call_on.h"
#include "io/fd.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "tests/exports/fuse/fuse_test.h"
#include "tests/io/export_thread.h"

namespace cairn::fuse {
namespace {

struct Answer {
  fuse_out_header header{};
  std::vector<std::byte> body;
};

class SessionTest : public FuseTest {
 protected:
  void start(ExportedFile::Settings settings) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends), 0);
    server_.reset(ends[0]);
    kernel_.reset(ends[1]);
    const int room = 4 << 20;
    setsockopt(kernel_.get(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    setsockopt(server_.get(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    thread_ = io::make_export_thread();
    home_.emplace(*root_, *reactor_, thread_ != nullptr);
    requests_.emplace(make_file(settings), *home_, Caching::kPageCache);
    session_ = std::make_unique<Session>(server_.get(), *requests_,
                                         [this]() -> Result<std::unique_ptr<RequestQueues>> {
                                           ++queues_asked_for_;
                                           return fail(ENOTSUP, "there are none");
                                         });
    tasks_.spawn(serve());
  }
  void TearDown() override {
    if (session_ != nullptr) {
      stop_.cancel();
      run(tasks_.join());
      session_.reset();
    }
    FuseTest::TearDown();
  }

  io::Task<void> serve() {
    auto serving = io::call_on(
        thread_ ? thread_->reactor() : *reactor_,
        [this](io::CancelToken stop) { return session_->run(stop); }, stop_.token());
    co_await serving;
  }

  void send(uint64_t unique, uint32_t opcode, std::span<const std::byte> body) {
    fuse_in_header header{};
    header.len = static_cast<uint32_t>(sizeof header + body.size());
    header.opcode = opcode;
    header.unique = unique;
    header.nodeid = FUSE_ROOT_ID;
    std::vector<std::byte> message(header.len);
    std::memcpy(message.data(), &header, sizeof header);
    std::ranges::copy(body, message.begin() + sizeof header);
    ASSERT_EQ(::send(kernel_.get(), message.data(), message.size(), 0),
              static_cast<ssize_t>(message.size()));
  }
  template <typename Arguments>
  void ask(uint64_t unique, uint32_t opcode, const Arguments& arguments,
           std::span<const std::byte> data = {}) {
    std::vector<std::byte> body(sizeof arguments + data.size());
    std::memcpy(body.data(), &arguments, sizeof arguments);
    std::ranges::copy(data, body.begin() + sizeof arguments);
    send(unique, opcode, body);
  }
  // Nothing when none comes in time.
  std::optional<Answer> answer(std::chrono::milliseconds patience = std::chrono::seconds(10)) {
    std::vector<std::byte> bytes(sizeof(fuse_out_header) + kLargestRead);
    const auto end = std::chrono::steady_clock::now() + patience;
    do {
      const ssize_t length = recv(kernel_.get(), bytes.data(), bytes.size(), 0);
      if (length >= static_cast<ssize_t>(sizeof(fuse_out_header))) {
        Answer result;
        std::memcpy(&result.header, bytes.data(), sizeof result.header);
        bytes.resize(static_cast<std::size_t>(length));
        EXPECT_EQ(result.header.len, bytes.size());
        result.body.assign(bytes.begin() + sizeof result.header, bytes.end());
        return result;
      }
      run(turn());
    } while (std::chrono::steady_clock::now() < end);
    return std::nullopt;
  }
  static io::Task<void> turn() { (void)co_await io::sleep_for(std::chrono::microseconds(100)); }
  void expect_error(uint64_t unique, int code) {
    const auto reply = answer();
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->header.unique, unique);
    EXPECT_EQ(reply->header.error, -code);
  }
  template <typename Reply>
  Reply expect() {
    const auto reply = answer();
    Reply result{};
    EXPECT_TRUE(reply);
    if (reply) {
      EXPECT_EQ(reply->header.error, 0);
      EXPECT_EQ(reply->body.size(), sizeof result);
      std::memcpy(&result, reply->body.data(), std::min(sizeof result, reply->body.size()));
    }
    return result;
  }

  io::Fd server_;
  io::Fd kernel_;
  std::unique_ptr<io::ReactorThread> thread_;
  std::optional<exports::NodeAccess> home_;
  io::CancelSource stop_;
  io::TaskGroup tasks_;
  std::optional<FileRequests> requests_;
  std::unique_ptr<Session> session_;
  std::atomic<int> queues_asked_for_ = 0;
};

TEST_F(SessionTest, AgreesOnAVersionAndTellsOfTheFile) {
  start({.writable = true});
  ask(1, FUSE_INIT, InitOffer{.major = 7, .minor = 38, .flags = FUSE_MAX_PAGES});
  EXPECT_EQ(expect<fuse_init_out>().max_pages, 256u);
  ask(2, FUSE_GETATTR, fuse_getattr_in{});
  EXPECT_EQ(expect<fuse_attr_out>().attr.size, kLength);
  ask(3, FUSE_OPEN, fuse_open_in{});
  EXPECT_EQ(expect<fuse_open_out>().open_flags, 0u);
  send(4, FUSE_STATFS, {});
  EXPECT_EQ(expect<fuse_statfs_out>().st.namelen, 255u);
}

TEST_F(SessionTest, ReadsRequestsWhereThereCanBeNoQueues) {
  start({});
  fuse_init_in offer{.major = 7, .minor = 42, .flags = FUSE_INIT_EXT, .flags2 = kOverRing};
  ask(1, FUSE_INIT, offer);
  EXPECT_EQ(expect<fuse_init_out>().flags2, 0u);
  EXPECT_EQ(queues_asked_for_, 1);
  ask(2, FUSE_GETATTR, fuse_getattr_in{});
  EXPECT_EQ(expect<fuse_attr_out>().attr.size, kLength);
}

TEST_F(SessionTest, MakesNoQueuesThatAreNotOffered) {
  start({});
  ask(1, FUSE_INIT, fuse_init_in{.major = 7, .minor = 42, .flags = FUSE_INIT_EXT});
  EXPECT_EQ(expect<fuse_init_out>().flags2, 0u);
  EXPECT_EQ(queues_asked_for_, 0);
}

TEST_F(SessionTest, WritesAndReads) {
  start({.writable = true});
  const std::vector<std::byte> data(100000, std::byte{9});
  fuse_write_in write{};
  write.offset = 5000;
  write.size = static_cast<uint32_t>(data.size());
  ask(1, FUSE_WRITE, write, data);
  EXPECT_EQ(expect<fuse_write_out>().size, data.size());
  fuse_read_in read{};
  read.offset = 5000;
  read.size = 200000;
  ask(2, FUSE_READ, read);
  const auto reply = answer();
  ASSERT_TRUE(reply);
  ASSERT_EQ(reply->body.size(), 200000u);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), reply->body.begin()));
  EXPECT_EQ(reply->body[data.size()], std::byte{0});
  read.offset = kLength - 10;
  ask(3, FUSE_READ, read);
  EXPECT_EQ(answer()->body.size(), 10u);
  ask(4, FUSE_FSYNC, fuse_fsync_in{});
  expect_error(4, 0);
  EXPECT_EQ(disk_.flushes, 1);
}

TEST_F(SessionTest, AnswersWhatItCanNotDo) {
  start({});
  send(1, FUSE_MKDIR, {});
  expect_error(1, ENOSYS);
  ask(2, FUSE_SETATTR, fuse_setattr_in{.valid = FATTR_SIZE});
  expect_error(2, EACCES);
  fuse_write_in write{};
  ask(3, FUSE_WRITE, write);
  expect_error(3, EACCES);
}

TEST_F(SessionTest, SurvivesWhatNoKernelSays) {
  start({.writable = true});
  for (const uint32_t opcode :
       {FUSE_INIT, FUSE_READ, FUSE_WRITE, FUSE_SETATTR, FUSE_FALLOCATE, FUSE_LSEEK}) {
    send(opcode, opcode, {});
    expect_error(opcode, opcode == FUSE_INIT ? EPROTO : EINVAL);
  }
  fuse_write_in write{};
  write.size = 1 << 20;  // and no data
  ask(100, FUSE_WRITE, write);
  expect_error(100, EINVAL);
  fuse_read_in read{};
  read.size = UINT32_MAX;
  ask(101, FUSE_READ, read);
  expect_error(101, EINVAL);
  ASSERT_EQ(::send(kernel_.get(), "abc", 3, 0), 3);
  ask(102, FUSE_OPEN, fuse_open_in{});
  expect_error(102, 0);
}

TEST_F(SessionTest, AnswersOtherRequestsWhileOneWaits) {
  start({.writable = true});
  disk_.open_gate.reset();
  fuse_read_in read{};
  read.size = 4096;
  ask(1, FUSE_READ, read);
  ask(2, FUSE_OPEN, fuse_open_in{});
  expect_error(2, 0);
  EXPECT_FALSE(answer(std::chrono::milliseconds(20)));
  disk_.open_gate.set();
  const auto reply = answer();
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->header.unique, 1u);
  EXPECT_EQ(reply->body.size(), 4096u);
}

TEST_F(SessionTest, TakesNoMoreRequestsThanItHasRoomFor) {
  start({});
  disk_.open_gate.reset();
  fuse_read_in read{};
  read.size = 512;
  constexpr uint64_t kMany = 150;
  for (uint64_t i = 1; i <= kMany; ++i) {
    ask(i, FUSE_READ, read);
  }
  // From an export's thread they come one by one.
  for (int turn = 0; turn < 100 && disk_.waiting < 128; ++turn) {
    EXPECT_FALSE(answer(std::chrono::milliseconds(50)));
  }
  EXPECT_FALSE(answer(std::chrono::milliseconds(50)));
  EXPECT_EQ(disk_.waiting, 128);
  disk_.open_gate.set();
  for (uint64_t i = 1; i <= kMany; ++i) {
    const auto reply = answer();
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->body.size(), 512u);
  }
}

TEST_F(SessionTest, ForgetsWithoutAWord) {
  start({});
  ask(1, FUSE_FORGET, fuse_forget_in{});
  ask(2, FUSE_INTERRUPT, fuse_interrupt_in{});
  ask(3, FUSE_OPEN, fuse_open_in{});
  expect_error(3, 0);
}

}  // namespace
}  // namespace cairn::fuse
