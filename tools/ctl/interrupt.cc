#include "tools/ctl/interrupt.h"

#include <csignal>
#include <initializer_list>

namespace cairn::ctl {

namespace {

volatile std::sig_atomic_t noted = 0;

void note(int) { noted = 1; }

}  // namespace

void note_interrupts() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action{};
    if (sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) {
      // As nohup has it.
      continue;
    }
    action.sa_handler = &note;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
    sigaction(signal, &action, nullptr);
  }
}

bool interrupted() { return noted != 0; }

}  // namespace cairn::ctl
