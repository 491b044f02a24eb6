// Station: where clients are served that have chosen an export: a reactor, at home or on an I/O
// thread, and the memory that requests there share.
//
// Invariants
// - It is made and destroyed at home, and used on its reactor's thread alone.
// - When it goes, nobody is served there any more.
#pragma once

#include <memory>
#include <unordered_set>

#include "exports/nbd/buffer_pool.h"
#include "io/reactor.h"
#include "io/task.h"

namespace cairn::nbd {

class Transmission;

class Station {
 public:
  explicit Station(std::shared_ptr<io::Reactor> reactor) : reactor_(std::move(reactor)) {}
  // At home, on the reactor that is current.
  Station() : home_(&io::Reactor::current()) {}
  Station(const Station&) = delete;
  Station& operator=(const Station&) = delete;
  ~Station();

  [[nodiscard]] io::Reactor& reactor() const { return reactor_ ? *reactor_ : *home_; }
  [[nodiscard]] bool away() const { return reactor_ != nullptr; }

  // The rest is called on its thread.
  [[nodiscard]] BufferPool& pool() { return pool_; }
  void enter(Transmission& transmission) { transmissions_.insert(&transmission); }
  void leave(Transmission& transmission) { transmissions_.erase(&transmission); }

  // Takes memory back from clients that have been idle since the last time. True when all are.
  bool relax();
  // Does that, and gives what nobody uses back when all are idle.
  [[nodiscard]] io::Task<void> tidy();

 private:
  std::shared_ptr<io::Reactor> reactor_;  // null: home
  io::Reactor* home_ = nullptr;
  BufferPool pool_;
  std::unordered_set<Transmission*> transmissions_;
  bool trimmed_ = false;  // and nothing has happened since
};

}  // namespace cairn::nbd
