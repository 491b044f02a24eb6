// Event loops as objects: I/O threads, each a reactor on a thread of its own, and the program's
// main loop.
//
// What an I/O thread is told about polling its reactor does. The other numbers that tune a loop are
// checked, kept and told, and change nothing: a reactor chooses its batches by itself.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "io/reactor.h"
#include "io/reactor_thread.h"
#include "objects/object.h"
#include "schema/types_qom.h"

namespace cairn::objects {

class EventLoop : public Object {
 public:
  static const Type kType;

 protected:
  EventLoop(const Type& type, std::string id) : Object(type, std::move(id)) {}
  [[nodiscard]] Result<void> configure(const schema::EventLoopBaseProperties& options);

  // Sets one of the numbers below, when that and what it leads to are allowed.
  template <auto Field>
  [[nodiscard]] static Result<void> set_number(Object& object, std::string_view name,
                                               const schema::JsonValue& value);
  [[nodiscard]] Result<void> change(int64_t EventLoop::* number, std::string_view name,
                                    int64_t value);
  // One of the numbers is another one now.
  virtual void adopt_numbers() {}

  int64_t aio_max_batch_ = 0;
  int64_t thread_pool_min_ = 0;
  int64_t thread_pool_max_ = 64;
  int64_t poll_max_ns_ = 32768;
  int64_t poll_grow_ = 0;
  int64_t poll_shrink_ = 0;

 private:
  static const Property kProperties[];
};

class MainLoop final : public EventLoop {
 public:
  static const Type kType;
  [[nodiscard]] static Result<std::shared_ptr<Object>> make(
      std::string id, const schema::MainLoopProperties& options);
  explicit MainLoop(std::string id) : EventLoop(kType, std::move(id)) {}
  [[nodiscard]] bool may_be_deleted() const override { return false; }
};

class Iothread final : public EventLoop, public std::enable_shared_from_this<Iothread> {
 public:
  static const Type kType;
  // Returns when the thread's reactor runs.
  [[nodiscard]] static Result<std::shared_ptr<Object>> make(
      std::string id, const schema::IothreadProperties& options, io::BackendKind io);
  explicit Iothread(std::string id);

  // Lives as long as this.
  [[nodiscard]] io::Reactor& reactor() { return thread_->reactor(); }
  // The same for who has tasks there: while somebody keeps it the object is in use.
  [[nodiscard]] std::shared_ptr<io::Reactor> share() { return {shared_from_this(), &reactor()}; }

  [[nodiscard]] bool may_be_deleted() const override { return weak_from_this().use_count() == 1; }

 private:
  static const Property kProperties[];

  [[nodiscard]] Result<void> start(io::BackendKind io);
  [[nodiscard]] io::PollSettings poll_settings() const;
  void adopt_numbers() override;

  std::unique_ptr<io::ReactorThread> thread_;
};

}  // namespace cairn::objects
