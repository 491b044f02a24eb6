// Throttle: keeps the requests of several users within limits that they share.
//
// Each user is a Member. Who may not go on at once waits in its member's queue; members take turns,
// one request each, and where reads and writes share a limit, these do, too. So a busy member takes
// no more than its share from one that has something to do, and all of what the others leave.
//
// Invariants
// - A request is counted when it is let through, by all limits that concern it, and waits for all.
// - Everything is on one reactor, by its clock.
#pragma once

#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "io/leaky_bucket.h"
#include "io/reactor.h"
#include "io/waiter.h"

namespace cairn::io {

enum class Direction : uint8_t { kRead, kWrite };

struct ThrottleLimits {
  // What limits both together, reads, and writes.
  struct Kind {
    RateLimit total;
    RateLimit read;
    RateLimit write;
    bool operator==(const Kind&) const = default;
  };
  Kind requests;
  Kind bytes;
  // A request counts once for each so many bytes, but never less than once; 0: always once.
  uint64_t request_size = 0;

  bool operator==(const ThrottleLimits&) const = default;
};

class Throttle final : private TimerEntry {
 public:
  class Member;

  Throttle() = default;

  // Starts anew with these limits; who waits is looked at again. To be called within a reactor
  // unless nobody waits.
  void set(const ThrottleLimits& limits);
  [[nodiscard]] const ThrottleLimits& limits() const { return limits_; }

 private:
  static constexpr std::size_t kDirections = 2;

  struct Side {
    std::vector<LeakyBucket*> requests;  // those of the buckets that concern it
    std::vector<LeakyBucket*> bytes;
    std::size_t waiting = 0;
    std::size_t turn = 0;  // the member that is looked at first
  };

  [[nodiscard]] Side& side(Direction direction) {
    return sides_[static_cast<std::size_t>(direction)];
  }
  [[nodiscard]] bool limited(Direction direction) {
    return !side(direction).requests.empty() || !side(direction).bytes.empty();
  }
  [[nodiscard]] Duration wait(Direction direction, TimePoint now);
  void count(Direction direction, uint64_t bytes, TimePoint now);
  void serve();
  [[nodiscard]] bool serve_one(Direction direction, TimePoint now);
  void arm(TimePoint now);
  void on_expired() override;

  ThrottleLimits limits_;
  std::array<LeakyBucket, 6> buckets_;
  std::array<Side, kDirections> sides_;
  Direction served_ = Direction::kWrite;  // last
  std::vector<Member*> members_;
  bool armed_ = false;
};

class Throttle::Member {
 public:
  explicit Member(std::shared_ptr<Throttle> throttle);
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;
  // Nobody waits any more.
  ~Member();

  [[nodiscard]] const std::shared_ptr<Throttle>& throttle() const { return throttle_; }
  // Shares other limits from now on; who waits goes on at once.
  void join(std::shared_ptr<Throttle> throttle);

  // Counts the request, if it may go on at once; false: wait().
  [[nodiscard]] bool admit(Direction direction, uint64_t bytes);
  // Counts the request, which goes on whatever the limits say.
  void let_through(Direction direction, uint64_t bytes);
  // Lets all go on that wait.
  void release();

  class Wait : private Waiter {
   public:
    Wait(Member& member, Direction direction, uint64_t bytes)
        : member_(member), direction_(direction), bytes_(bytes) {}
    [[nodiscard]] bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> handle);
    void await_resume() const {}

   private:
    friend class Member;
    friend class Throttle;
    Member& member_;
    Direction direction_;
    uint64_t bytes_;
  };
  // `co_await member.wait(…)`, when admit() said no.
  [[nodiscard]] Wait wait(Direction direction, uint64_t bytes) { return {*this, direction, bytes}; }

 private:
  friend class Throttle;

  [[nodiscard]] WaiterList& queue(Direction direction) {
    return queues_[static_cast<std::size_t>(direction)];
  }
  void serve_first(Direction direction, TimePoint now);

  std::shared_ptr<Throttle> throttle_;
  std::array<WaiterList, kDirections> queues_;
};

}  // namespace cairn::io
