// Interrupt: signals that end a program which has something to take away first.
//
// The first signal cancels the work, which then ends by itself and cleans up. When that takes too
// long, at the second signal, and when there is nothing that could be cancelled, what has to go
// goes at once. Either way the program ends by the signal, as if it had not been caught.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "io/cancel.h"
#include "io/signal.h"
#include "io/task.h"

namespace cairn::tools {

// "SIGINT".
[[nodiscard]] std::string signal_name(int signal);

// Ends the program by the signal, which is blocked no more.
[[noreturn]] void end_by_signal(int signal);

class Interrupt {
 public:
  // Made before the first thread. Also has too long a file be an error in place of a signal.
  [[nodiscard]] static Result<io::SignalWatcher> watch_signals();

  // `signals` outlives it.
  explicit Interrupt(const io::SignalWatcher& signals) : signals_(signals) {}

  // Waits for signals until over() is called. To be spawned beside the work.
  [[nodiscard]] io::Task<void> watch();
  void over() { over_.cancel(); }

  // Whether the work looks at token() now.
  void set_cancellable(bool on) { cancellable_ = on; }
  [[nodiscard]] io::CancelToken token() { return stop_.token(); }
  // Takes away what has to go, and says so: for when the work can not end by itself.
  void set_at_once(std::function<void(int signal)> at_once) { at_once_ = std::move(at_once); }

  // The signal that came, or 0.
  [[nodiscard]] int signal() const { return signal_; }

 private:
  const io::SignalWatcher& signals_;
  io::CancelSource stop_;
  io::CancelSource over_;
  std::function<void(int signal)> at_once_;
  bool cancellable_ = false;
  int signal_ = 0;
};

}  // namespace cairn::tools
