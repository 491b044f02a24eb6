// ReactorThread: a thread with a reactor of its own, for whoever wants to have tasks run there with
// call_on().
#pragma once

#include <memory>
#include <thread>

#include "base/result.h"
#include "io/reactor.h"

namespace cairn::io {

class ReactorThread {
 public:
  // Returns when the reactor runs. `name` has at most 15 characters.
  [[nodiscard]] static Result<std::unique_ptr<ReactorThread>> start(const char* name,
                                                                    BackendKind kind,
                                                                    PollSettings polling);
  ReactorThread(const ReactorThread&) = delete;
  ReactorThread& operator=(const ReactorThread&) = delete;
  // Nothing may be left on the reactor. Not from its own thread.
  ~ReactorThread();

  // For post() and what is built on it; lives as long as this.
  [[nodiscard]] Reactor& reactor() { return *reactor_; }

  // Has the reactor poll otherwise, and returns when it does.
  void set_polling(PollSettings settings);

 private:
  class Stop;
  class Polling;

  ReactorThread();

  Reactor* reactor_ = nullptr;  // on the thread's stack
  std::unique_ptr<Stop> stop_;
  std::thread thread_;
};

}  // namespace cairn::io
