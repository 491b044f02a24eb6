// Load on a vhost-user-blk export, of any daemon: so many requests of one size in flight in each of
// several queues, each driven by a thread of its own, for some seconds. Prints what came of it as
// JSON.
//
//   vhost_load SOCKET read|write|randread|randwrite BYTES DEPTH QUEUES SECONDS [spin]
//
// It sleeps while it waits, as a guest's driver does; with 'spin' it looks on.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "bench/vhost/front_end.h"

namespace cairn::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Load {
  bool random = false;
  bool spin = false;
  uint32_t bytes = 0;
  uint16_t depth = 0;
  uint64_t capacity = 0;
};

struct Tally {
  uint64_t requests = 0;
  std::chrono::nanoseconds waited{0};  // of all requests together
};

class Places {
 public:
  Places(const Load& load, unsigned seed)
      : random_(load.random),
        blocks_(load.capacity / load.bytes),
        sectors_(load.bytes / 512),
        engine_(seed),
        next_(blocks_ / 8 * seed % blocks_) {}
  uint64_t sector() {
    next_ = random_ ? engine_() % blocks_ : (next_ + 1) % blocks_;
    return next_ * sectors_;
  }

 private:
  bool random_;
  uint64_t blocks_;
  uint64_t sectors_;
  std::mt19937_64 engine_;
  uint64_t next_;
};

Tally drive(LoadQueue& queue, const Load& load, unsigned seed, const std::atomic<bool>& over) {
  Places places(load, seed);
  std::vector<Clock::time_point> begun(load.depth, Clock::now());
  for (uint16_t slot = 0; slot < load.depth; ++slot) {
    queue.begin(slot, places.sector());
  }
  queue.submit();
  Tally tally;
  uint32_t left = load.depth;
  while (left > 0) {
    const auto done = queue.wait(load.spin);
    const auto now = Clock::now();
    const bool goes_on = !over.load(std::memory_order_relaxed);
    for (const uint16_t slot : done) {
      ++tally.requests;
      tally.waited += now - begun[slot];
      if (goes_on) {
        begun[slot] = now;
        queue.begin(slot, places.sector());
      } else {
        --left;
      }
    }
    if (goes_on) {
      queue.submit();
    }
  }
  return tally;
}

int run(const std::vector<std::string>& arguments) {
  const std::string& kind = arguments[1];
  Load load{.random = kind.starts_with("rand"),
            .spin = arguments.size() > 6 && arguments[6] == "spin",
            .bytes = static_cast<uint32_t>(std::stoul(arguments[2])),
            .depth = static_cast<uint16_t>(std::stoul(arguments[3]))};
  const auto count = static_cast<unsigned>(std::stoul(arguments[4]));
  const auto seconds = std::chrono::duration<double>(std::stod(arguments[5]));
  SharedMemory memory((std::size_t{load.bytes} + 64) * load.depth * count + (count << 20));
  std::vector<std::unique_ptr<LoadQueue>> queues;
  for (unsigned i = 0; i < count; ++i) {
    queues.push_back(
        std::make_unique<LoadQueue>(memory, load.depth, load.bytes, kind.ends_with("write")));
  }
  FrontEnd front_end(arguments[0]);
  load.capacity = front_end.capacity();
  front_end.start(memory, queues);

  std::atomic<bool> over = false;
  std::vector<Tally> tallies(count);
  std::vector<std::thread> threads;
  const auto begin = Clock::now();
  for (unsigned i = 0; i < count; ++i) {
    threads.emplace_back([&, i] { tallies[i] = drive(*queues[i], load, i + 1, over); });
  }
  std::this_thread::sleep_for(seconds);
  over = true;
  Tally all;
  for (unsigned i = 0; i < count; ++i) {
    threads[i].join();
    all.requests += tallies[i].requests;
    all.waited += tallies[i].waited;
  }
  const double took = std::chrono::duration<double>(Clock::now() - begin).count();
  const double iops = static_cast<double>(all.requests) / took;
  const double latency = std::chrono::duration<double, std::micro>(all.waited).count() /
                         static_cast<double>(all.requests);
  fmt::print("{{\"requests\": {}, \"iops\": {:.1f}, \"bandwidth\": {:.0f}, \"latency\": {:.3f}}}\n",
             all.requests, iops, iops * load.bytes, latency);
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace cairn::bench

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() < 6) {
    fmt::print(stderr,
               "usage: {} SOCKET read|write|randread|randwrite BYTES DEPTH QUEUES SECONDS [spin]\n",
               argv[0]);
    return EXIT_FAILURE;
  }
  return cairn::bench::run(arguments);
}
