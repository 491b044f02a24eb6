#include "io/reactor_thread.h"

#include <future>
#include <utility>

#include "io/event.h"
#include "io/quiet_thread.h"

namespace cairn::io {
namespace {

Task<void> wait_for_stop(Event& event) { co_await event.wait(); }

}  // namespace

// Ends the thread, from another one.
class ReactorThread::Stop final : public RemoteWork {
 public:
  void run() override { ended.set(); }
  Event ended;
};

// Changes how its reactor polls, while another thread waits for that.
class ReactorThread::Polling final : public RemoteWork {
 public:
  Polling(Reactor& reactor, PollSettings settings) : reactor_(reactor), settings_(settings) {}
  void run() override {
    reactor_.set_polling(settings_);
    done.set_value();
  }
  std::promise<void> done;

 private:
  Reactor& reactor_;
  const PollSettings settings_;
};

ReactorThread::ReactorThread() : stop_(std::make_unique<Stop>()) {}

Result<std::unique_ptr<ReactorThread>> ReactorThread::start(const char* name, BackendKind kind,
                                                            PollSettings polling) {
  std::unique_ptr<ReactorThread> made(new ReactorThread());
  std::promise<Result<Reactor*>> ready;
  auto started = ready.get_future();
  made->thread_ = start_quiet_thread(name, [kind, polling, &ready, stop = made->stop_.get()] {
    auto reactor = Reactor::create(kind);
    if (!reactor) {
      ready.set_value(pass(reactor));
      return;
    }
    Reactor* const running = reactor->get();
    running->set_polling(polling);
    ready.set_value(running);
    running->block_on(wait_for_stop(stop->ended));
  });
  auto reactor = started.get();
  if (!reactor) {
    return pass(reactor);
  }
  made->reactor_ = *reactor;
  return made;
}

void ReactorThread::set_polling(PollSettings settings) {
  Polling polling(*reactor_, settings);
  auto done = polling.done.get_future();
  reactor_->post(polling);
  done.wait();
}

ReactorThread::~ReactorThread() {
  if (reactor_ != nullptr) {
    reactor_->post(*stop_);
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

}  // namespace cairn::io
