#include "objects/event_loop.h"

#include <cerrno>
#include <future>
#include <utility>

#include "io/event.h"
#include "io/quiet_thread.h"
#include "objects/property.h"
#include "objects/types.h"
#include "schema/visit_qom.h"

namespace cairn::objects {

namespace {

io::Task<void> wait_for(io::Event& event) { co_await event.wait(); }

}  // namespace

template <auto Field>
Result<void> EventLoop::set_number(Object& object, std::string_view name,
                                   const schema::JsonValue& value) {
  auto number = decode_property<int64_t>(name, value);
  if (!number) {
    return pass(number);
  }
  return static_cast<EventLoop&>(object).change(Field, name, *number);
}

Result<void> EventLoop::change(int64_t EventLoop::* number, std::string_view name, int64_t value) {
  if (value < 0) {
    return fail(EINVAL, "{} value must be in range [0, {}]", name, INT64_MAX);
  }
  const int64_t before = std::exchange(this->*number, value);
  if (thread_pool_max_ == 0 || thread_pool_min_ > thread_pool_max_) {
    this->*number = before;
    return fail(EINVAL, "bad thread-pool-min/thread-pool-max values");
  }
  adopt_numbers();
  return {};
}

Result<void> EventLoop::configure(const schema::EventLoopBaseProperties& options) {
  // Both bounds of the pool may be beyond what the other one is by default.
  thread_pool_max_ = INT64_MAX;
  struct Setting {
    int64_t EventLoop::* number;
    std::string_view name;
    std::optional<int64_t> value;
  };
  const Setting settings[] = {
      {&EventLoop::aio_max_batch_, "aio-max-batch", options.aio_max_batch},
      {&EventLoop::thread_pool_min_, "thread-pool-min", options.thread_pool_min},
      {&EventLoop::thread_pool_max_, "thread-pool-max", options.thread_pool_max.value_or(64)},
  };
  for (const auto& [number, name, value] : settings) {
    if (auto changed = value ? change(number, name, *value) : Result<void>(); !changed) {
      return changed;
    }
  }
  return {};
}

const Property EventLoop::kProperties[] = {
    {"thread-pool-min", "int", &detail::get_member<&EventLoop::thread_pool_min_>,
     &set_number<&EventLoop::thread_pool_min_>},
    {"aio-max-batch", "int", &detail::get_member<&EventLoop::aio_max_batch_>,
     &set_number<&EventLoop::aio_max_batch_>},
    {"thread-pool-max", "int", &detail::get_member<&EventLoop::thread_pool_max_>,
     &set_number<&EventLoop::thread_pool_max_>},
};
const Type EventLoop::kType = {.name = "event-loop-base",
                               .parent = &kObjectType,
                               .abstract = true,
                               .properties = kProperties,
                               .implements = &kUserCreatableType};

const Type MainLoop::kType = {
    .name = "main-loop", .parent = &EventLoop::kType, .option = "main-loop"};

Result<std::shared_ptr<Object>> MainLoop::make(std::string id,
                                               const schema::MainLoopProperties& options) {
  auto loop = std::make_shared<MainLoop>(std::move(id));
  auto configured = loop->configure(options);
  if (!configured) {
    return pass(configured);
  }
  return loop;
}

const Property Iothread::kProperties[] = {
    {"poll-max-ns", "int", &detail::get_member<&Iothread::poll_max_ns_>,
     &set_number<&Iothread::poll_max_ns_>},
    {"poll-grow", "int", &detail::get_member<&Iothread::poll_grow_>,
     &set_number<&Iothread::poll_grow_>},
    {"poll-shrink", "int", &detail::get_member<&Iothread::poll_shrink_>,
     &set_number<&Iothread::poll_shrink_>},
};
const Type Iothread::kType = {.name = "iothread",
                              .parent = &EventLoop::kType,
                              .properties = kProperties,
                              .option = "iothread"};

// Ends the thread, from another one.
class Iothread::Stop final : public io::RemoteWork {
 public:
  void run() override { ended.set(); }
  io::Event ended;
};

// Changes how its reactor polls, while another thread waits for that.
class Iothread::Polling final : public io::RemoteWork {
 public:
  Polling(io::Reactor& reactor, io::PollSettings settings)
      : reactor_(reactor), settings_(settings) {}
  void run() override {
    reactor_.set_polling(settings_);
    done.set_value();
  }
  std::promise<void> done;

 private:
  io::Reactor& reactor_;
  const io::PollSettings settings_;
};

Iothread::Iothread(std::string id) : EventLoop(kType, std::move(id)) {}

Result<std::shared_ptr<Object>> Iothread::make(std::string id,
                                               const schema::IothreadProperties& options,
                                               io::BackendKind io) {
  auto thread = std::make_shared<Iothread>(std::move(id));
  struct Setting {
    int64_t EventLoop::* number;
    std::string_view name;
    std::optional<int64_t> value;
  };
  const Setting settings[] = {
      {&Iothread::poll_max_ns_, "poll-max-ns", options.poll_max_ns},
      {&Iothread::poll_grow_, "poll-grow", options.poll_grow},
      {&Iothread::poll_shrink_, "poll-shrink", options.poll_shrink},
  };
  auto done = thread->configure(options);
  for (const auto& [number, name, value] : settings) {
    if (done && value) {
      done = thread->change(number, name, *value);
    }
  }
  if (done) {
    done = thread->start(io);
  }
  if (!done) {
    return pass(done);
  }
  return thread;
}

Result<void> Iothread::start(io::BackendKind io) {
  stop_ = std::make_unique<Stop>();
  std::promise<Result<io::Reactor*>> ready;
  auto started = ready.get_future();
  thread_ = io::start_quiet_thread("cairn-iothread",
                                   [io, &ready, stop = stop_.get(), polling = poll_settings()] {
                                     auto reactor = io::Reactor::create(io);
                                     if (!reactor) {
                                       ready.set_value(pass(reactor));
                                       return;
                                     }
                                     io::Reactor* const running = reactor->get();
                                     running->set_polling(polling);
                                     ready.set_value(running);
                                     running->block_on(wait_for(stop->ended));
                                   });
  auto reactor = started.get();
  if (!reactor) {
    return pass(reactor, "Cannot start an I/O thread: ");
  }
  reactor_ = *reactor;
  return {};
}

io::PollSettings Iothread::poll_settings() const {
  return {.longest = std::chrono::nanoseconds(poll_max_ns_),
          .grow = poll_grow_,
          .shrink = poll_shrink_};
}

void Iothread::adopt_numbers() {
  if (reactor_ == nullptr) {
    return;  // start() will
  }
  Polling polling(*reactor_, poll_settings());
  auto done = polling.done.get_future();
  reactor_->post(polling);
  done.wait();
}

Iothread::~Iothread() {
  if (reactor_) {
    reactor_->post(*stop_);
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

}  // namespace cairn::objects
