// What the pieces of io/ cost: nanoseconds for a task, a wake-up, a trip through the kernel.
//
//   reactor_bench [io_uring|epoll]
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "io/event.h"
#include "io/file.h"
#include "io/frame_pool.h"
#include "io/iovector.h"
#include "io/mutex.h"
#include "io/range_lock.h"
#include "io/reactor.h"
#include "io/socket.h"
#include "io/task.h"
#include "io/task_group.h"
#include "io/timer.h"
#include "io/worker_pool.h"

namespace cairn::io {
namespace {

// Prints what one of `count` rounds took since `start`.
void report(std::string_view what, TimePoint start, int count) {
  const std::chrono::duration<double, std::nano> spent = Clock::now() - start;
  fmt::print("{:<44} {:>10.1f} ns\n", what, spent.count() / count);
}

[[gnu::noinline]] Task<int> return_value(int value) { co_return value; }

Task<void> bench_tasks() {
  constexpr int kRounds = 5'000'000;
  const TimePoint start = Clock::now();
  int64_t sum = 0;
  for (int i = 0; i < kRounds; ++i) {
    auto task = return_value(i);
    sum += co_await std::move(task);
  }
  report(sum > 0 ? "task that does not suspend" : "", start, kRounds);
}

Task<void> bench_yield() {
  constexpr int kRounds = 5'000'000;
  const TimePoint start = Clock::now();
  for (int i = 0; i < kRounds; ++i) {
    co_await yield_now();
  }
  report("suspend and resume through the ready queue", start, kRounds);
}

Task<void> bench_locks() {
  constexpr int kRounds = 5'000'000;
  AsyncMutex mutex;
  TimePoint start = Clock::now();
  for (int i = 0; i < kRounds; ++i) {
    auto guard = co_await mutex.lock();
  }
  report("mutex, free", start, kRounds);
  RangeLock locks;
  start = Clock::now();
  for (int i = 0; i < kRounds; ++i) {
    auto guard = co_await locks.lock_exclusive(static_cast<uint64_t>(i), 1);
  }
  report("range lock, nothing else locked", start, kRounds);
  std::vector<RangeLock::Guard> held;
  for (uint64_t i = 0; i < 32; ++i) {
    held.push_back(co_await locks.lock_exclusive(UINT64_MAX / 2 + i, 1));
  }
  start = Clock::now();
  for (int i = 0; i < kRounds; ++i) {
    auto guard = co_await locks.lock_exclusive(static_cast<uint64_t>(i), 1);
  }
  report("range lock beside 32 others", start, kRounds);
}

Task<void> bench_worker() {
  constexpr int kRounds = 50'000;
  WorkerPool pool(1);
  const TimePoint start = Clock::now();
  for (int i = 0; i < kRounds; ++i) {
    auto work = pool.run([] {});
    co_await work;
  }
  report("worker pool, there and back", start, kRounds);
}

// A client that sends a request and waits for the answer, on a thread of its own.
void ask(int fd, int rounds) {
  std::array<std::byte, 28> request{};
  std::array<std::byte, 4112> answer{};
  for (int i = 0; i < rounds; ++i) {
    if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) < 0 ||
        recv(fd, answer.data(), answer.size(), MSG_WAITALL) < 0) {
      return;
    }
  }
}

Task<void> bench_requests() {
  constexpr int kRounds = 100'000;
  auto streams = Stream::pair();
  auto opening = File::open("/dev/shm/cairn-reactor-bench", {.writable = true, .create = true});
  auto file = co_await std::move(opening);
  if (!streams || !file) {
    co_return;
  }
  std::vector<std::byte> block(4096);
  auto writing = file->write_at(IoVector(block), 0);
  co_await std::move(writing);
  std::thread client(ask, streams->second.fd(), kRounds);
  std::array<std::byte, 4096> buffer{};
  std::array<std::byte, 16> header{};
  const FrameCounts frames = frame_counts();
  const uint64_t operations = Reactor::current().operations_submitted();
  const TimePoint start = Clock::now();
  for (int i = 0; i < kRounds; ++i) {
    auto receiving = streams->first.read_some(buffer);
    auto count = co_await receiving;
    if (!count || *count == 0) {
      break;
    }
    auto reading = file->read_at(IoVector(block), 0);
    co_await std::move(reading);
    const std::array<iovec, 2> answer{iovec{.iov_base = header.data(), .iov_len = header.size()},
                                      iovec{.iov_base = block.data(), .iov_len = block.size()}};
    auto sending = streams->first.write_all(std::span(answer));
    co_await std::move(sending);
  }
  report("4 KiB read over a Unix socket, depth 1", start, kRounds);
  fmt::print("{:<44} {:>10.2f} frames, {:.2f} operations\n", "  each",
             static_cast<double>(frame_counts().taken - frames.taken) / kRounds,
             static_cast<double>(Reactor::current().operations_submitted() - operations) / kRounds);
  client.join();
  std::remove("/dev/shm/cairn-reactor-bench");
}

Task<void> bench_all() {
  co_await bench_tasks();
  co_await bench_yield();
  co_await bench_locks();
  co_await bench_worker();
  co_await bench_requests();
}

int run(std::string_view backend) {
  const auto kind = parse_backend_kind(backend);
  if (!kind) {
    fmt::print(stderr, "{}\n", kind.error().message());
    return 1;
  }
  auto reactor = Reactor::create(*kind);
  if (!reactor) {
    fmt::print(stderr, "{}\n", reactor.error().message());
    return 1;
  }
  fmt::print("{}\n", (*reactor)->backend_name());
  (*reactor)->block_on(bench_all());
  return 0;
}

}  // namespace
}  // namespace cairn::io

int main(int argc, char** argv) { return cairn::io::run(argc > 1 ? argv[1] : "auto"); }
