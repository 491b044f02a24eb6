#include "block/epoch.h"

#include <cassert>

namespace cairn::block {

EpochTracker::~EpochTracker() { assert(pins_ == 0 && "a request outlives its node"); }

uint64_t EpochTracker::enter() {
  ++pins_;
  ++epochs_.back().pins;
  return first_ + epochs_.size() - 1;
}

void EpochTracker::leave(uint64_t epoch) {
  --pins_;
  Epoch& left = epochs_[epoch - first_];
  if (--left.pins == 0 && epoch == first_ && epochs_.size() > 1) {
    run_finished();
  }
}

void EpochTracker::defer(std::function<void()> action) {
  if (broken_) {
    action();
    return;
  }
  epochs_.back().action = std::move(action);
  epochs_.emplace_back();
  run_finished();
}

void EpochTracker::run_finished() {
  if (running_) {  // an action deferred another one: the loop below sees it
    return;
  }
  running_ = true;
  while (epochs_.size() > 1 && epochs_.front().pins == 0) {
    const std::function<void()> action = std::move(epochs_.front().action);
    epochs_.pop_front();
    ++first_;
    action();
  }
  running_ = false;
}

}  // namespace cairn::block
