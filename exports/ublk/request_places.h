// RequestPlaces: the conversation with the kernel about the requests of one device: its queues,
// with places for so many requests each. Several requests are taken, and several answers given,
// with one system call.
//
// Invariants
// - Every request that was taken is answered once.
// - A place's memory is the request's from the moment it is taken until it is answered, and else
// the
//   kernel's. Places are large, and only as much of them is touched as requests fill.
// - All of it on the thread that created this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "exports/place_ring.h"
#include "exports/ublk/block_requests.h"
#include "exports/ublk/driver.h"
#include "exports/ublk/protocol.h"
#include "io/buffer.h"
#include "io/cancel.h"
#include "io/command_ring.h"
#include "io/task.h"

namespace cairn::ublk {

class RequestPlaces {
 public:
  // Offers every place to the kernel. Fails where there can be no ring, or no memory for the
  // places. `channel` and `requests` outlive this.
  [[nodiscard]] static Result<std::unique_ptr<RequestPlaces>> create(Channel& channel,
                                                                     const DeviceInfo& device,
                                                                     const BlockRequests& requests);
  RequestPlaces(const RequestPlaces&) = delete;
  RequestPlaces& operator=(const RequestPlaces&) = delete;
  // After run(), or in its place.
  ~RequestPlaces() = default;

  // Serves until the kernel has taken all places back, which it does when the device is stopped, or
  // until `stop` is cancelled: then it takes no more requests, and completes when those that were
  // taken are answered. Places that the kernel has then go back when this is destroyed.
  [[nodiscard]] io::Task<void> run(io::CancelToken stop);

 private:
  RequestPlaces(Channel& channel, const DeviceInfo& device, const BlockRequests& requests,
                io::AlignedBuffer memory, std::unique_ptr<io::CommandRing> ring);

  // Places are counted through all queues.
  [[nodiscard]] uint16_t queue_of(std::size_t place) const {
    return static_cast<uint16_t>(place / device_.queue_depth);
  }
  [[nodiscard]] uint16_t place_in_queue(std::size_t place) const {
    return static_cast<uint16_t>(place % device_.queue_depth);
  }
  [[nodiscard]] std::span<std::byte> memory_of(std::size_t place);
  void offer(std::size_t place);
  [[nodiscard]] PlaceBody body_of(std::size_t place, int32_t result);
  // Refers to `body`.
  [[nodiscard]] io::CommandRing::Command command(PlaceCommand what, std::size_t place,
                                                 const PlaceBody& body) const;
  [[nodiscard]] io::Task<void> serve(std::size_t place);

  Channel& channel_;
  const DeviceInfo device_;
  const BlockRequests& requests_;
  io::AlignedBuffer memory_;
  exports::PlaceRing ring_;  // goes before the memory that it refers to
};

}  // namespace cairn::ublk
