// The simulator's command line: many histories on a few processes, or one to be looked at.
//
//   simulator --histories 20000 --jobs 2     seeds 1 to 20000
//   simulator --seed 4711                    this one alone
//   simulator --seed 4711 --trace            with every step on standard error
//   simulator --seed 4711 --save DIR         with the images as they were at the finding
//
// CAIRN_SIM_SCALE=0.02 in the environment makes a run of many histories so much shorter, for builds
// that are slow.
//
// Every process runs its share of the seeds one after the other and notes which one it is at, so
// that a crash or a hang has a seed, too. The exit code is 1 when there was a finding.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "io/worker_pool.h"
#include "tests/sim/history.h"

namespace {

using cairn::testing::History;
using cairn::testing::HistoryResult;
using cairn::testing::Plant;
using cairn::testing::SimOptions;

// A history takes milliseconds; one that takes this long, in seconds of real time, hangs.
constexpr unsigned kLongestHistory = 120;
// Every so many histories one is run twice, and one is shown to qemu-img.
constexpr uint64_t kRepeatEvery = 64;
constexpr uint64_t kQemuEvery = 500;

struct Arguments {
  uint64_t histories = 1;
  uint64_t seed = 1;
  uint64_t jobs = 1;
  uint64_t findings = 5;  // stop after so many
  uint64_t qemu_every = kQemuEvery;
  bool expect_finding = false;
  SimOptions options;
};

// What a process shows the one that started it.
struct Slot {
  uint64_t seed;
  uint64_t done;
  uint64_t findings;
  uint64_t operations;
  uint64_t requests;
  uint64_t states;
};

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value)
                                                                  : std::nullopt;
}

bool parse(int argc, char** argv, Arguments& arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--trace") {
      arguments.options.trace = true;
      continue;
    }
    if (name == "--expect-finding") {
      arguments.expect_finding = true;
      continue;
    }
    if (++i == argc) {
      return false;
    }
    const std::string_view value = argv[i];
    if (name == "--plant") {
      if (value != "lying-flush" && value != "early-reuse") {
        return false;
      }
      arguments.options.plant = value == "lying-flush" ? Plant::kLyingFlush : Plant::kEarlyReuse;
      continue;
    }
    if (name == "--save") {
      arguments.options.save_to = value;
      continue;
    }
    const auto parsed = number(value);
    uint64_t* target = name == "--histories"    ? &arguments.histories
                       : name == "--seed"       ? &arguments.seed
                       : name == "--jobs"       ? &arguments.jobs
                       : name == "--findings"   ? &arguments.findings
                       : name == "--qemu-every" ? &arguments.qemu_every
                                                : nullptr;
    if (target == nullptr || !parsed) {
      return false;
    }
    *target = *parsed;
  }
  return arguments.jobs > 0;
}

void report(const SimOptions& options, std::string_view finding, std::string_view plan) {
  const char* plant = options.plant == Plant::kLyingFlush   ? " --plant lying-flush"
                      : options.plant == Plant::kEarlyReuse ? " --plant early-reuse"
                                                            : "";
  fmt::print("seed {}: {}\n  {}\n  replay: --seed {}{}\n", options.seed, finding, plan,
             options.seed, plant);
  std::fflush(stdout);
}

// One seed; true when nothing was found.
bool run_seed(const Arguments& arguments, uint64_t seed, Slot& slot) {
  SimOptions options = arguments.options;
  options.seed = seed;
  options.ask_qemu = arguments.qemu_every != 0 && seed % arguments.qemu_every == 0;
  slot.seed = seed;
  alarm(kLongestHistory);
  HistoryResult result = History(options).run();
  if (result.finding.empty() && seed % kRepeatEvery == 0) {
    const HistoryResult again = History(options).run();
    if (again.fingerprint != result.fingerprint) {
      result.finding = "a second run of the same seed went another way";
    }
  }
  alarm(0);
  ++slot.done;
  slot.operations += result.operations;
  slot.requests += result.requests;
  slot.states += result.states;
  if (result.finding.empty()) {
    return true;
  }
  ++slot.findings;
  report(options, result.finding, result.plan);
  return false;
}

// The share of one process: every jobs-th seed from `first`.
void run_share(const Arguments& arguments, uint64_t first, Slot& slot) {
  for (uint64_t seed = first; seed < arguments.seed + arguments.histories; seed += arguments.jobs) {
    run_seed(arguments, seed, slot);
    if (slot.findings >= arguments.findings) {
      return;
    }
  }
}

int run_jobs(const Arguments& arguments) {
  void* memory = mmap(nullptr, arguments.jobs * sizeof(Slot), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    return 2;
  }
  const std::span slots(static_cast<Slot*>(memory), arguments.jobs);
  const auto start = [&](uint64_t job, uint64_t first) {
    const pid_t child = fork();
    if (child == 0) {
      run_share(arguments, first, slots[job]);
      std::fflush(stdout);
      _exit(0);
    }
    return child;
  };
  std::vector<pid_t> children;
  for (uint64_t job = 0; job < arguments.jobs; ++job) {
    children.push_back(start(job, arguments.seed + job));
  }
  for (uint64_t job = 0; job < arguments.jobs; ++job) {
    int status = 0;
    while (waitpid(children[job], &status, 0) == children[job] && status != 0) {
      // It crashed; the rest of its share is still to be done.
      SimOptions options = arguments.options;
      options.seed = slots[job].seed;
      ++slots[job].findings;
      report(options,
             WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM
                 ? fmt::format("no end after {} s", kLongestHistory)
                 : fmt::format("the process died ({})", status),
             "");
      if (slots[job].findings >= arguments.findings) {
        break;
      }
      children[job] = start(job, slots[job].seed + arguments.jobs);
    }
  }
  Slot total{};
  for (const Slot& slot : slots) {
    total.done += slot.done;
    total.findings += slot.findings;
    total.operations += slot.operations;
    total.requests += slot.requests;
    total.states += slot.states;
  }
  fmt::print("{} histories, {} operations, {} requests of disks, {} crash states, {} findings\n",
             total.done, total.operations, total.requests, total.states, total.findings);
  return (total.findings != 0) == arguments.expect_finding ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  cairn::io::WorkerPool::keep_shared_work_inline();
  Arguments arguments;
  if (!parse(argc, argv, arguments)) {
    fmt::print(
        stderr,
        "usage: {} [--histories N] [--seed N] [--jobs N] [--findings N] [--qemu-every N]\n"
        "       [--plant lying-flush|early-reuse] [--expect-finding] [--trace] [--save DIR]\n",
        argv[0]);
    return 2;
  }
  if (const char* scale = std::getenv("CAIRN_SIM_SCALE"); scale && !arguments.expect_finding) {
    const double histories = static_cast<double>(arguments.histories) * std::atof(scale);
    arguments.histories = std::max<uint64_t>(1, static_cast<uint64_t>(histories));
  }
  if (arguments.histories == 1 && !arguments.expect_finding) {
    Slot slot{};
    return run_seed(arguments, arguments.seed, slot) ? 0 : 1;
  }
  return run_jobs(arguments);
}
