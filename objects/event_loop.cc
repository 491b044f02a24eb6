#include "objects/event_loop.h"

#include <cerrno>
#include <utility>

#include "objects/property.h"
#include "objects/types.h"
#include "schema/visit_qom.h"

namespace cairn::objects {

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
  auto thread = io::ReactorThread::start("cairn-iothread", io, poll_settings());
  if (!thread) {
    return pass(thread, "Cannot start an I/O thread: ");
  }
  thread_ = std::move(*thread);
  return {};
}

io::PollSettings Iothread::poll_settings() const {
  return {.longest = std::chrono::nanoseconds(poll_max_ns_),
          .grow = poll_grow_,
          .shrink = poll_shrink_};
}

void Iothread::adopt_numbers() {
  if (thread_ != nullptr) {  // else start() will
    thread_->set_polling(poll_settings());
  }
}

}  // namespace cairn::objects
