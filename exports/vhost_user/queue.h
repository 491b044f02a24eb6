// Queue: one virtqueue of the device, as messages set it up, and the work on what the driver puts
// into it.
//
// Invariants
// - A queue works only while it is running; stop() completes when every request that was taken is
//   given back, after which nothing here touches the guest's memory.
// - It is set up, started and stopped at home, and works on the device's reactor.
// - Settings change while it does not run. Where it works at home, the descriptors that are
//   signalled change at any time.
// - A driver that breaks the rules is reported once, and the queue takes nothing more.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "base/result.h"
#include "exports/vhost_user/block_device.h"
#include "exports/vhost_user/guest_memory.h"
#include "exports/vhost_user/inflight.h"
#include "exports/vhost_user/packed_tracker.h"
#include "exports/vhost_user/protocol.h"
#include "exports/vhost_user/ring.h"
#include "io/cancel.h"
#include "io/event.h"
#include "io/fd.h"
#include "io/task.h"
#include "io/task_group.h"

namespace cairn::vhost_user {

// What all queues of a device work with; outlives them.
struct QueueContext {
  BlockDevice& device;
  GuestMemory& memory;
  uint64_t features = 0;    // that the driver has agreed to
  DirtyLog* log = nullptr;  // null: changes of memory are not logged
  std::function<void(const Error&)> on_broken;
};

class Queue {
 public:
  static constexpr uint32_t kLargestSize = 32768;

  Queue(uint32_t index, QueueContext& context) : index_(index), context_(context) {}
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  // stop() first.
  ~Queue() = default;

  // Settings.
  [[nodiscard]] Result<void> set_size(uint32_t size);
  void set_addresses(const VringAddress& addresses) { addresses_ = addresses; }
  void set_base(uint32_t base) { base_ = base; }
  void set_enabled(bool enabled) { enabled_ = enabled; }
  // Where this queue's part of the memory is that tracks what is in flight; null: there is none.
  void set_tracking(std::byte* region, uint16_t queue_size);
  // The driver's notifications come by it; without one it is looked for them from time to time.
  void set_kick(io::Fd descriptor);
  void set_call(io::Fd descriptor) { call_ = std::move(descriptor); }
  void set_error(io::Fd descriptor) { error_ = std::move(descriptor); }

  [[nodiscard]] uint16_t size() const { return size_; }
  // Where the next request is taken from, in the form of the messages about it.
  [[nodiscard]] uint32_t base() const { return base_; }

  // Goes to work, when all it needs is there. What was begun before stop() goes on without the
  // driver telling anew.
  void start();
  [[nodiscard]] io::Task<void> stop();
  // Forgets the driver's descriptor: it has to begin anew, at whatever place. After stop().
  void end();

 private:
  // At home, while it runs.
  [[nodiscard]] io::Task<void> run();
  // The rest happens where it works. The error is what the driver has broken.
  [[nodiscard]] io::Task<std::optional<Error>> work(io::CancelToken stop);
  [[nodiscard]] io::Task<void> serve();
  // False: it is to stop.
  [[nodiscard]] io::Task<bool> wait_for_kick();
  [[nodiscard]] Result<void> open_ring();
  [[nodiscard]] Result<void> find_parts(RingSetup& setup, bool packed) const;
  [[nodiscard]] io::Task<Result<void>> take_requests();
  [[nodiscard]] io::Task<void> handle(Chain chain);
  // Tells the driver of what was completed meanwhile, of many at once where it can.
  [[nodiscard]] io::Task<void> announce();
  void signal_driver();
  void report_broken(const Error& error);

  const uint32_t index_;
  QueueContext& context_;
  uint16_t size_ = 0;
  VringAddress addresses_{};
  uint32_t base_ = 0;
  bool enabled_ = false;
  bool begun_ = false;    // the driver has made itself heard
  bool polled_ = false;   // it will not tell
  bool broken_ = false;   // it takes nothing more
  bool settled_ = false;  // it has worked, and nothing was left in flight when it stopped
  io::Fd kick_;
  io::Fd call_;
  io::Fd error_;
  std::byte* tracking_ = nullptr;
  uint16_t tracked_size_ = 0;

  // While it works.
  std::optional<SplitTracker> split_tracker_;
  std::optional<PackedTracker> packed_tracker_;
  std::unique_ptr<Ring> ring_;
  std::optional<io::CancelSource> ending_;  // of serve() and announce()
  std::optional<Error> complaint_;
  bool taking_ = false;
  io::Event completed_;
  io::TaskGroup servers_;
  io::TaskGroup requests_;

  // At home.
  std::optional<io::CancelSource> stopping_;  // while it runs
  io::TaskGroup running_;
};

}  // namespace cairn::vhost_user
