#include "exports/vhost_user/queue.h"

#include <poll.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <chrono>

#include "exports/vhost_user/packed_ring.h"
#include "exports/vhost_user/split_ring.h"
#include "exports/vhost_user/virtio.h"
#include "io/call_on.h"
#include "io/operation.h"
#include "io/timer.h"

namespace cairn::vhost_user {
namespace {

// How many requests are taken before everything else gets its turn.
constexpr int kTurn = 64;
// How often it is looked for requests of a driver that does not tell.
constexpr io::Duration kPollPause = std::chrono::microseconds(100);

bool aligned(const std::byte* place, std::size_t to) {
  return reinterpret_cast<uintptr_t>(place) % to == 0;
}

void raise_event(const io::Fd& descriptor) {
  if (descriptor.valid()) {
    const uint64_t one = 1;
    // It never blocks, and fails when the counter is full: then there is a signal already.
    [[maybe_unused]] const ssize_t written = write(descriptor.get(), &one, sizeof one);
  }
}

// Cancels a source when another one is.
class EndWith final : public io::CancelHook {
 public:
  explicit EndWith(io::CancelSource& source) : source_(source) {}

 private:
  void on_cancel() override { source_.cancel(); }
  io::CancelSource& source_;
};

Error taken_away() { return {EFAULT, "memory of the guest was taken away"}; }

}  // namespace

Result<void> Queue::set_size(uint32_t size) {
  if (size == 0 || size > kLargestSize) {
    return fail(EINVAL, "queue {} can not have the size {}", index_, size);
  }
  size_ = static_cast<uint16_t>(size);
  return {};
}

void Queue::set_tracking(std::byte* region, uint16_t queue_size) {
  tracking_ = region;
  tracked_size_ = queue_size;
}

void Queue::set_kick(io::Fd descriptor) {
  polled_ = !descriptor.valid();
  kick_ = std::move(descriptor);
}

void Queue::start() {
  // Queues begin enabled for those who do not know of it ("Ring states").
  const bool enabled = enabled_ || (context_.features & bit(kFeatureProtocol)) == 0;
  if (stopping_ || broken_ || !enabled || size_ == 0 || (!kick_.valid() && !polled_)) {
    return;
  }
  stopping_.emplace();
  running_.spawn(run());
}

io::Task<void> Queue::stop() {
  if (!stopping_) {
    co_return;
  }
  stopping_->cancel();
  co_await running_.join();
  stopping_.reset();
}

io::Task<void> Queue::run() {
  auto working = io::call_on(
      context_.device.reactor(), [this](io::CancelToken token) { return work(token); },
      stopping_->token());
  const std::optional<Error> error = co_await working;
  if (error) {
    context_.on_broken(*error);
  }
}

io::Task<std::optional<Error>> Queue::work(io::CancelToken stop) {
  ending_.emplace();
  {
    EndWith end(*ending_);
    end.arm(stop);
    servers_.spawn(announce());
    servers_.spawn(serve());
    co_await servers_.join();
  }
  co_await requests_.join();
  if (ring_ != nullptr) {
    signal_driver();
    base_ = ring_->position();
    settled_ = ring_->caught_up();
    ring_.reset();
    split_tracker_.reset();
    packed_tracker_.reset();
  }
  completed_.reset();
  ending_.reset();
  co_return std::exchange(complaint_, std::nullopt);
}

void Queue::end() {
  kick_.reset();
  polled_ = false;
  begun_ = false;
  if (tracking_ != nullptr && settled_) {
    forget_tracked(tracking_);
  }
  settled_ = false;
}

io::Task<void> Queue::serve() {
  while (!ending_->cancelled()) {
    if (!begun_) {
      const bool kicked = co_await wait_for_kick();
      if (!kicked) {
        co_return;
      }
      begun_ = true;
    }
    if (ring_ == nullptr) {
      if (auto opened = open_ring(); !opened) {
        report_broken(opened.error());
        co_return;
      }
    }
    Result<void> taken = co_await take_requests();
    if (!taken) {
      report_broken(taken.error());
      co_return;
    }
    const bool kicked = co_await wait_for_kick();
    if (!kicked) {
      co_return;
    }
  }
}

io::Task<bool> Queue::wait_for_kick() {
  if (polled_) {
    auto pause = io::sleep_for(kPollPause, ending_->token());
    co_return co_await pause;
  }
  for (;;) {
    const io::OperationRequest request{
        .kind = io::OperationRequest::Kind::kPoll, .fd = kick_.get(), .flags = POLLIN};
    io::OperationAwaiter poll(request, ending_->token());
    const int64_t ready = co_await poll;
    if (ready < 0 || ending_->cancelled()) {
      co_return false;
    }
    uint64_t count = 0;
    const ssize_t got = read(kick_.get(), &count, sizeof count);
    if (got > 0) {
      co_return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
      co_return false;  // a pipe whose other end is gone: nobody will tell anything any more
    }
  }
}

Result<void> Queue::find_parts(RingSetup& setup, bool packed) const {
  const GuestMemory& memory = context_.memory;
  const uint64_t table =
      packed ? PackedRing::descriptor_bytes(size_) : SplitRing::descriptor_bytes(size_);
  const uint64_t available = packed ? PackedRing::kEventBytes : SplitRing::available_bytes(size_);
  const uint64_t used = packed ? PackedRing::kEventBytes : SplitRing::used_bytes(size_);
  setup.parts = {.descriptors = memory.at_user(addresses_.descriptors, table),
                 .available = memory.at_user(addresses_.available, available),
                 .used = memory.at_user(addresses_.used, used)};
  if (setup.parts.descriptors == nullptr || setup.parts.available == nullptr ||
      setup.parts.used == nullptr) {
    return fail(EFAULT, "it is said to be where there is no memory");
  }
  if (!aligned(setup.parts.descriptors, 16) || !aligned(setup.parts.available, packed ? 4 : 2) ||
      !aligned(setup.parts.used, 4)) {
    return fail(EINVAL, "it is not aligned");
  }
  return {};
}

Result<void> Queue::open_ring() {
  const auto agreed = [this](int feature) { return (context_.features & bit(feature)) != 0; };
  const bool packed = agreed(kFeaturePacked);
  if (!packed && !std::has_single_bit(size_)) {
    return fail(EINVAL, "its size is {}, which is no power of two", size_);
  }
  RingSetup setup{.size = size_,
                  .parts = {},
                  .memory = &context_.memory,
                  .indirect = agreed(kFeatureIndirect),
                  .event_index = agreed(kFeatureEventIndex),
                  .log = context_.log,
                  .logs_ring = (addresses_.flags & kVringLogFlag) != 0,
                  .used_log_address = addresses_.log};
  if (auto found = find_parts(setup, packed); !found) {
    return found;
  }
  if (tracking_ != nullptr && tracked_size_ < size_) {
    return fail(EINVAL, "it has {} places, but {} are tracked", size_, tracked_size_);
  }
  if (packed) {
    PackedTracker* const tracker =
        tracking_ != nullptr ? &packed_tracker_.emplace(tracking_, size_) : nullptr;
    ring_ = std::make_unique<PackedRing>(setup, base_, tracker);
  } else {
    SplitTracker* const tracker =
        tracking_ != nullptr ? &split_tracker_.emplace(tracking_, size_) : nullptr;
    ring_ = std::make_unique<SplitRing>(setup, static_cast<uint16_t>(base_), tracker);
  }
  return {};
}

io::Task<Result<void>> Queue::take_requests() {
  int turn = 0;
  do {
    taking_ = true;
    ring_->set_kicks(false);
    for (;;) {
      Chain chain;
      Result<bool> taken = ring_->pop(chain);
      Result<void> checked = taken && *taken ? BlockDevice::check(chain) : Result<void>();
      if (!taken || !checked) {
        taking_ = false;
        co_return taken ? std::move(checked) : pass(taken);
      }
      if (!*taken) {
        break;
      }
      requests_.spawn(handle(std::move(chain)));
      if (++turn == kTurn) {
        turn = 0;
        signal_driver();
        taking_ = false;
        co_await io::yield_now();
        if (ending_->cancelled()) {
          co_return Result<void>();
        }
        taking_ = true;
      }
    }
    signal_driver();
    taking_ = false;
    if (context_.memory.faulted()) {
      co_return std::unexpected(taken_away());
    }
    ring_->set_kicks(true);
  } while (ring_->has_available());
  co_return Result<void>();
}

io::Task<void> Queue::handle(Chain chain) {
  auto work = context_.device.execute(chain);
  const uint32_t written = co_await std::move(work);
  ring_->push(chain, written);
  if (!taking_) {
    completed_.set();
  }
}

io::Task<void> Queue::announce() {
  for (;;) {
    const bool completed = co_await completed_.wait(ending_->token());
    if (!completed) {
      co_return;
    }
    // By now all have been given back that were completed in the same turn.
    completed_.reset();
    signal_driver();
    if (context_.memory.faulted()) {
      report_broken(taken_away());
    }
  }
}

void Queue::signal_driver() {
  if (ring_ != nullptr && ring_->wants_signal()) {
    raise_event(call_);
  }
}

void Queue::report_broken(const Error& error) {
  if (!broken_) {
    broken_ = true;
    raise_event(error_);
    // What is found in the place of memory that is gone is wrong only for that.
    const Error reason = context_.memory.faulted() ? taken_away() : error;
    complaint_ = Error(reason).prefix(fmt::format("queue {}: ", index_));
    ending_->cancel();
  }
}

}  // namespace cairn::vhost_user
