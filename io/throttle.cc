#include "io/throttle.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace cairn::io {
namespace {

constexpr Direction kBoth[] = {Direction::kRead, Direction::kWrite};

Direction other(Direction direction) {
  return direction == Direction::kRead ? Direction::kWrite : Direction::kRead;
}

TimePoint time_now() {
  const Reactor* reactor = Reactor::current_or_null();
  return reactor != nullptr ? reactor->now() : TimePoint();
}

}  // namespace

void Throttle::set(const ThrottleLimits& limits) {
  limits_ = limits;
  const TimePoint now = time_now();
  const RateLimit rates[] = {limits.requests.total, limits.requests.read, limits.requests.write,
                             limits.bytes.total,    limits.bytes.read,    limits.bytes.write};
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    buckets_[i].set(rates[i], now);
  }
  for (const Direction direction : kBoth) {
    const std::size_t own = direction == Direction::kRead ? 1 : 2;
    side(direction).requests = {&buckets_[0], &buckets_[own]};
    side(direction).bytes = {&buckets_[3], &buckets_[3 + own]};
    for (std::vector<LeakyBucket*>* list : {&side(direction).requests, &side(direction).bytes}) {
      std::erase_if(*list, [](const LeakyBucket* bucket) { return !bucket->limited(); });
    }
  }
  serve();
}

Duration Throttle::wait(Direction direction, TimePoint now) {
  Duration longest = Duration::zero();
  for (const auto* list : {&side(direction).requests, &side(direction).bytes}) {
    for (LeakyBucket* bucket : *list) {
      longest = std::max(longest, bucket->wait(now));
    }
  }
  return longest;
}

void Throttle::count(Direction direction, uint64_t bytes, TimePoint now) {
  double requests = 1;
  if (limits_.request_size != 0 && bytes > limits_.request_size) {
    requests = static_cast<double>(bytes) / static_cast<double>(limits_.request_size);
  }
  for (LeakyBucket* bucket : side(direction).requests) {
    bucket->pour(requests, now);
  }
  for (LeakyBucket* bucket : side(direction).bytes) {
    bucket->pour(static_cast<double>(bytes), now);
  }
}

// Lets through whoever may go on now, and sees to it that the others are looked at in time.
void Throttle::serve() {
  if (sides_[0].waiting + sides_[1].waiting == 0) {
    return;
  }
  const TimePoint now = time_now();
  while (serve_one(other(served_), now) || serve_one(served_, now)) {
  }
  arm(now);
}

bool Throttle::serve_one(Direction direction, TimePoint now) {
  Side& mine = side(direction);
  if (mine.waiting == 0 || wait(direction, now) > Duration::zero()) {
    return false;
  }
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const std::size_t at = (mine.turn + i) % members_.size();
    if (!members_[at]->queue(direction).empty()) {
      mine.turn = at + 1;
      served_ = direction;
      members_[at]->serve_first(direction, now);
      return true;
    }
  }
  return false;
}

void Throttle::arm(TimePoint now) {
  if (std::exchange(armed_, false)) {
    Reactor::current().remove_timer(*this);
  }
  Duration soonest = Duration::max();
  for (const Direction direction : kBoth) {
    if (side(direction).waiting != 0) {
      soonest = std::min(soonest, wait(direction, now));
    }
  }
  if (soonest != Duration::max()) {
    armed_ = true;
    Reactor::current().add_timer(*this, now + soonest);
  }
}

void Throttle::on_expired() {
  armed_ = false;
  serve();
}

Throttle::Member::Member(std::shared_ptr<Throttle> throttle) : throttle_(std::move(throttle)) {
  throttle_->members_.push_back(this);
}

Throttle::Member::~Member() {
  assert(queues_[0].empty() && queues_[1].empty() && "a request outlives its queue");
  std::erase(throttle_->members_, this);
}

void Throttle::Member::join(std::shared_ptr<Throttle> throttle) {
  release();
  std::erase(throttle_->members_, this);
  throttle_ = std::move(throttle);
  throttle_->members_.push_back(this);
}

bool Throttle::Member::admit(Direction direction, uint64_t bytes) {
  Throttle& shared = *throttle_;
  if (!shared.limited(direction)) {
    return true;
  }
  const TimePoint now = time_now();
  if (shared.side(direction).waiting != 0 || shared.wait(direction, now) > Duration::zero()) {
    return false;
  }
  shared.count(direction, bytes, now);
  return true;
}

void Throttle::Member::let_through(Direction direction, uint64_t bytes) {
  if (throttle_->limited(direction)) {
    throttle_->count(direction, bytes, time_now());
  }
}

void Throttle::Member::serve_first(Direction direction, TimePoint now) {
  Wait& first = static_cast<Wait&>(*queue(direction).pop());
  --throttle_->side(direction).waiting;
  throttle_->count(direction, first.bytes_, now);
  first.wake();
}

void Throttle::Member::release() {
  const TimePoint now = time_now();
  for (const Direction direction : kBoth) {
    while (!queue(direction).empty()) {
      serve_first(direction, now);
    }
  }
}

void Throttle::Member::Wait::await_suspend(std::coroutine_handle<> handle) {
  bind(handle);
  member_.queue(direction_).push(*this);
  Throttle& shared = *member_.throttle_;
  ++shared.side(direction_).waiting;
  shared.serve();
}

}  // namespace cairn::io
