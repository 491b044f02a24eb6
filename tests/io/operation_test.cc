// Operations on both back ends: waiting, cancelling, and what can go wrong.
#include "io/operation.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "io/fd.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "tests/io/reactor_fixture.h"

namespace cairn::io {
namespace {

using namespace std::chrono_literals;
using Kind = OperationRequest::Kind;

class OperationTest : public ReactorTest {};

struct SocketPair {
  SocketPair() {
    std::array<int, 2> fds{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
    a.reset(fds[0]);
    b.reset(fds[1]);
  }
  Fd a;
  Fd b;
};

Task<int64_t> receive(int fd, std::span<char> into, CancelToken token = {}) {
  const OperationRequest request{
      .kind = Kind::kReceive, .fd = fd, .length = into.size(), .buffer = into.data()};
  OperationAwaiter operation(request, token);
  co_return co_await operation;
}

Task<int64_t> send(int fd, std::string text, CancelToken token = {}) {
  iovec segment{.iov_base = text.data(), .iov_len = text.size()};
  msghdr message{};
  message.msg_iov = &segment;
  message.msg_iovlen = 1;
  OperationRequest request{.kind = Kind::kSend, .fd = fd};
  request.message = &message;
  OperationAwaiter operation(request, token);
  co_return co_await operation;
}

Task<int64_t> poll_fd(int fd, uint32_t events, CancelToken token = {}) {
  const OperationRequest request{.kind = Kind::kPoll, .fd = fd, .flags = events};
  OperationAwaiter operation(request, token);
  co_return co_await operation;
}

Task<void> store(Task<int64_t> task, int64_t& result) { result = co_await std::move(task); }

Task<void> receive_and_send_on_one_descriptor() {
  const SocketPair sockets;
  // Fill the socket, so that a send waits as well.
  const std::string filling(1 << 16, 'x');
  ssize_t filled = 0;
  for (ssize_t n = 0; n >= 0; filled += std::max<ssize_t>(n, 0)) {
    n = ::send(sockets.a.get(), filling.data(), filling.size(), MSG_DONTWAIT);
  }
  std::array<char, 16> buffer{};
  int64_t received = -1;
  int64_t sent = -1;
  int64_t polled = -1;
  TaskGroup group;
  group.spawn(store(receive(sockets.a.get(), buffer), received));
  group.spawn(store(send(sockets.a.get(), "end"), sent));
  group.spawn(store(poll_fd(sockets.a.get(), POLLIN), polled));
  co_await yield_now();
  EXPECT_EQ(group.running(), 3U);
  auto answer = send(sockets.b.get(), "hello");
  co_await std::move(answer);
  while (received < 0) {  // NOLINT(bugprone-infinite-loop): the tasks of `group` set these
    co_await yield_now();
  }
  EXPECT_EQ(std::string(buffer.data(), 5), "hello");
  EXPECT_EQ(sent, -1);
  std::vector<char> sink(1 << 16);
  while (filled > 0) {
    auto drain = receive(sockets.b.get(), sink);
    filled -= co_await std::move(drain);
  }
  while (sent < 0) {  // NOLINT(bugprone-infinite-loop)
    co_await yield_now();
  }
  EXPECT_EQ(sent, 3);
  // The poll came with the data, or comes now.
  auto more = send(sockets.b.get(), "again");
  co_await std::move(more);
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(polled, POLLIN);
}

TEST_F(OperationTest, SeveralOperationsWaitOnOneDescriptor) {
  run(receive_and_send_on_one_descriptor());
}

Task<void> two_readers() {
  const SocketPair sockets;
  std::array<char, 1> first{};
  std::array<char, 1> second{};
  int64_t first_count = -1;
  int64_t second_count = -1;
  TaskGroup group;
  group.spawn(store(receive(sockets.a.get(), first), first_count));
  group.spawn(store(receive(sockets.a.get(), second), second_count));
  co_await yield_now();
  auto one = send(sockets.b.get(), "1");
  co_await std::move(one);
  while (group.running() == 2) {
    co_await yield_now();
  }
  EXPECT_EQ(first_count + second_count, 0);  // one has a byte, the other waits on
  auto two = send(sockets.b.get(), "2");
  co_await std::move(two);
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(first[0] + second[0], '1' + '2');
}

TEST_F(OperationTest, TwoReadersOfOneDescriptorBothGetTheirs) { run(two_readers()); }

Task<void> cancel_receive(int64_t& result) {
  const SocketPair sockets;
  CancelSource source;
  std::array<char, 16> buffer{};
  TaskGroup group;
  group.spawn(store(receive(sockets.a.get(), buffer, source.token()), result));
  co_await yield_now();
  EXPECT_EQ(group.running(), 1U);
  source.cancel();
  auto join = group.join();
  co_await std::move(join);
  // The descriptor still works, and a token that was cancelled before counts too.
  auto late = receive(sockets.a.get(), buffer, source.token());
  const int64_t late_result = co_await std::move(late);
  EXPECT_EQ(late_result, -ECANCELED);
  auto sending = send(sockets.b.get(), "x");
  co_await std::move(sending);
  auto again = receive(sockets.a.get(), buffer);
  const int64_t count = co_await std::move(again);
  EXPECT_EQ(count, 1);
}

TEST_F(OperationTest, CancellingEndsAWait) {
  int64_t result = 0;
  run(cancel_receive(result));
  EXPECT_EQ(result, -ECANCELED);
}

Task<void> cancel_what_is_done() {
  const SocketPair sockets;
  CancelSource source;
  std::array<char, 16> buffer{};
  int64_t result = -1;
  TaskGroup group;
  group.spawn(store(receive(sockets.a.get(), buffer, source.token()), result));
  auto sending = send(sockets.b.get(), "data");
  co_await std::move(sending);
  // In the same turn: completed or not, it must end once, with one of the two.
  source.cancel();
  auto join = group.join();
  co_await std::move(join);
  EXPECT_TRUE(result == 4 || result == -ECANCELED) << result;
}

TEST_F(OperationTest, CancellingRacesWithCompletionHarmlessly) {
  for (int i = 0; i < 200; ++i) {
    run(cancel_what_is_done());
  }
}

Task<void> wait_in_thousands(bool cancelled) {
  constexpr std::size_t kMany = 3000;  // many times what a ring holds
  const Fd event(eventfd(0, EFD_CLOEXEC));
  CancelSource source;
  std::vector<int64_t> results(kMany, 0);
  TaskGroup group;
  for (int64_t& result : results) {
    group.spawn(store(poll_fd(event.get(), POLLIN, source.token()), result));
  }
  co_await yield_now();
  EXPECT_EQ(group.running(), kMany);
  if (cancelled) {
    source.cancel();
  } else {
    const uint64_t one = 1;
    EXPECT_EQ(write(event.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  }
  auto join = group.join();
  co_await std::move(join);
  EXPECT_EQ(results, std::vector<int64_t>(kMany, cancelled ? -ECANCELED : POLLIN));
}

TEST_F(OperationTest, ThousandsWaitAtOnce) { run(wait_in_thousands(false)); }

TEST_F(OperationTest, ThousandsAreCancelledAtOnce) { run(wait_in_thousands(true)); }

Task<int64_t> sync_file(int fd, CancelToken token) {
  const OperationRequest request{.kind = Kind::kFsync, .fd = fd};
  OperationAwaiter operation(request, token);
  co_return co_await operation;
}

Task<void> cancel_file_operations() {
  const Fd file(open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!file.valid()) {
    co_return;  // not every file system has files without names
  }
  CancelSource source;
  std::vector<int64_t> results(200, 1);
  TaskGroup group;
  for (int64_t& result : results) {
    group.spawn(store(sync_file(file.get(), source.token()), result));
  }
  source.cancel();
  auto join = group.join();
  co_await std::move(join);
  for (const int64_t result : results) {
    EXPECT_TRUE(result == 0 || result == -ECANCELED) << result;
  }
}

TEST_F(OperationTest, FileOperationsEndWhenCancelledOneWayOrTheOther) {
  run(cancel_file_operations());
}

Task<void> poll_what_is_always_ready() {
  const Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  auto both = poll_fd(null.get(), POLLIN | POLLOUT);
  const int64_t events = co_await std::move(both);
  EXPECT_EQ(events, POLLIN | POLLOUT);
  const Fd file(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  auto in = poll_fd(file.get(), POLLIN);
  const int64_t readable = co_await std::move(in);
  EXPECT_EQ(readable, POLLIN);
}

TEST_F(OperationTest, FilesAndNullDevicesPollAsReady) { run(poll_what_is_always_ready()); }

Task<void> poll_hang_up() {
  SocketPair sockets;
  sockets.b.reset();
  auto poll = poll_fd(sockets.a.get(), POLLIN);
  const int64_t events = co_await std::move(poll);
  EXPECT_NE(events & POLLHUP, 0);
}

TEST_F(OperationTest, PollTellsOfAHangUp) { run(poll_hang_up()); }

Task<void> use_bad_descriptors() {
  std::array<char, 4> buffer{};
  for (const int fd : {-1, 9999}) {
    auto reading = receive(fd, buffer);
    const int64_t received = co_await std::move(reading);
    EXPECT_EQ(received, -EBADF);
    auto polling = poll_fd(fd, POLLIN);
    const int64_t polled = co_await std::move(polling);
    EXPECT_EQ(polled, -EBADF);
    iovec segment{.iov_base = buffer.data(), .iov_len = buffer.size()};
    for (const Kind kind : {Kind::kReadv, Kind::kWritev, Kind::kFsync, Kind::kFallocate}) {
      OperationRequest request{.kind = kind, .fd = fd};
      if (kind == Kind::kReadv || kind == Kind::kWritev) {
        request.vectors = &segment;
        request.vector_count = 1;
      }
      request.length = 4;
      OperationAwaiter operation(request);
      const int64_t result = co_await operation;
      EXPECT_EQ(result, -EBADF);
    }
  }
}

TEST_F(OperationTest, BadDescriptorsFailWithEbadf) { run(use_bad_descriptors()); }

Task<void> reuse_descriptor_numbers() {
  for (int i = 0; i < 50; ++i) {
    const SocketPair sockets;  // the same numbers every time
    std::array<char, 4> buffer{};
    int64_t count = -1;
    TaskGroup group;
    group.spawn(store(receive(sockets.a.get(), buffer), count));
    co_await yield_now();
    auto sending = send(sockets.b.get(), "abc");
    co_await std::move(sending);
    auto join = group.join();
    co_await std::move(join);
    EXPECT_EQ(count, 3);
  }
}

TEST_F(OperationTest, ADescriptorNumberCanBeUsedAgain) { run(reuse_descriptor_numbers()); }

Task<void> spin(bool& stop, int& turns) {
  while (!stop) {
    ++turns;
    co_await yield_now();
  }
}

Task<void> complete_beside_a_spinner() {
  const SocketPair sockets;
  bool stop = false;
  int turns = 0;
  std::array<char, 4> buffer{};
  TaskGroup group;
  group.spawn(spin(stop, turns));
  std::thread writer([&sockets] { EXPECT_EQ(write(sockets.b.get(), "x", 1), 1); });
  auto receiving = receive(sockets.a.get(), buffer);
  const int64_t count = co_await std::move(receiving);
  EXPECT_EQ(count, 1);
  co_await sleep_for(1ms);
  stop = true;
  writer.join();
  auto join = group.join();
  co_await std::move(join);
  EXPECT_GT(turns, 0);
}

TEST_F(OperationTest, TheKernelAndTimersAreServedWhileCoroutinesSpin) {
  run(complete_beside_a_spinner());
}

Task<void> echo_for_ever(int fd, bool& stop) {
  std::array<char, 1> buffer{};
  while (!stop) {
    auto sending = send(fd, "x");
    co_await std::move(sending);
    auto receiving = receive(fd, buffer);
    co_await std::move(receiving);
  }
}

Task<void> run_beside_a_busy_socket() {
  // A datagram socket that is connected to itself is always ready.
  const Fd self(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const sockaddr any{.sa_family = AF_UNIX, .sa_data = {}};
  EXPECT_EQ(bind(self.get(), &any, sizeof any.sa_family), 0);  // the kernel picks a name
  sockaddr_storage name{};
  socklen_t length = sizeof name;
  auto* address = reinterpret_cast<sockaddr*>(&name);
  EXPECT_EQ(getsockname(self.get(), address, &length), 0);
  EXPECT_EQ(connect(self.get(), address, length), 0);
  bool stop = false;
  TaskGroup group;
  // It never has to wait; it returns to us all the same.
  group.spawn(echo_for_ever(self.get(), stop));
  co_await sleep_for(1ms);
  stop = true;
  auto join = group.join();
  co_await std::move(join);
}

TEST_F(OperationTest, ASocketThatIsAlwaysReadyDoesNotKeepOthersFromRunning) {
  run(run_beside_a_busy_socket());
}

}  // namespace
}  // namespace cairn::io
