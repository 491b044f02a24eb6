// Starting helper threads: they receive no signals from outside, so that those reach the thread
// whose reactor watches for them (io/signal.h), and they have a name for debuggers.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <memory>
#include <thread>
#include <utility>

namespace cairn::io {

// Starts a thread that runs `work` with every signal blocked but for those that it raises itself:
// one of these that is blocked ends the program, whatever handler there is. `name` has at most 15
// characters.
template <typename Work>
[[nodiscard]] std::thread start_quiet_thread(const char* name, Work work) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  for (const int raised : {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP}) {
    sigdelset(&all, raised);
  }
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(work));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread.native_handle(), name);
  return thread;
}

}  // namespace cairn::io
