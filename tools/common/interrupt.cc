#include "tools/common/interrupt.h"

#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <vector>

#include <fmt/format.h>

#include "io/timer.h"

namespace cairn::tools {
namespace {

constexpr io::Duration kPatience = std::chrono::seconds(2);
constexpr int kSignalCodes = 128;

}  // namespace

std::string signal_name(int signal) {
  const char* const name = sigabbrev_np(signal);
  return name != nullptr ? fmt::format("SIG{}", name) : fmt::format("signal {}", signal);
}

void end_by_signal(int signal) {
  std::signal(signal, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  std::fflush(stdout);
  (void)raise(signal);  // pending where it is blocked
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  _exit(kSignalCodes + signal);
}

Result<io::SignalWatcher> Interrupt::watch_signals() {
  std::signal(SIGXFSZ, SIG_IGN);
  // What whoever started the program has it ignore (nohup does) stays ignored.
  std::vector<int> signals;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction now = {};
    if (sigaction(signal, nullptr, &now) != 0 || now.sa_handler != SIG_IGN) {
      signals.push_back(signal);
    }
  }
  return io::SignalWatcher::create(signals);
}

io::Task<void> Interrupt::watch() {
  const Result<int> first = co_await signals_.next(over_.token());
  if (!first) {
    co_return;
  }
  signal_ = *first;
  if (cancellable_) {
    stop_.cancel();
    const io::Deadline deadline(over_, kPatience);
    const Result<int> second = co_await signals_.next(over_.token());
    if (!second && !deadline.expired()) {
      co_return;
    }
  }
  if (at_once_) {
    at_once_(signal_);
  }
  end_by_signal(signal_);
}

}  // namespace cairn::tools
