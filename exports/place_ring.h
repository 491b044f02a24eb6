// PlaceRing: requests that the kernel puts into places which it was offered, by commands through a
// ring that end when there is one. Several requests are taken, and several answers given, with one
// system call.
//
// Invariants
// - Every request that was taken is served once, and its answer offers the place again.
// - All of it on the thread that runs it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#include "io/cancel.h"
#include "io/command_ring.h"
#include "io/event.h"
#include "io/task.h"
#include "io/task_group.h"

namespace cairn::exports {

class PlaceRing {
 public:
  // Serves the request in a place, whose number is the tag of the command that offered it, and
  // answers it.
  using Serve = std::function<io::Task<void>(std::size_t place)>;

  explicit PlaceRing(std::unique_ptr<io::CommandRing> ring) : ring_(std::move(ring)) {}
  PlaceRing(const PlaceRing&) = delete;
  PlaceRing& operator=(const PlaceRing&) = delete;
  // After run(), or in its place. Places that are offered go back.
  ~PlaceRing() = default;

  // Offers a place for the first time. It is handed over by submit(), or when this runs.
  void offer(const io::CommandRing::Command& command);
  void submit() { ring_->submit(); }
  // Answers the request in a place, which is offered again by that. Is handed over soon.
  void answer(const io::CommandRing::Command& command);

  // Serves until the kernel has taken all places back, or `stop` is cancelled: then it takes no
  // more requests, and completes when those that were taken are answered. Once.
  [[nodiscard]] io::Task<void> run(Serve serve, io::CancelToken stop);

 private:
  // True: there were some.
  [[nodiscard]] bool take_requests(const Serve& serve);
  // Hands answers over that were not ready at once.
  [[nodiscard]] io::Task<void> submit_answers();

  std::unique_ptr<io::CommandRing> ring_;
  std::size_t offered_ = 0;  // places that the kernel has, or that requests are in
  bool taking_ = false;      // what is answered now is handed over soon
  io::Event answered_;
  io::CancelSource ended_;
  io::TaskGroup tasks_;
  io::TaskGroup submitting_;
};

}  // namespace cairn::exports
