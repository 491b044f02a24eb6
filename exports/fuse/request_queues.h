// RequestQueues: the conversation with the kernel about one mount through io_uring: a queue for
// each processor, with places for so many requests. Several requests are taken, and several answers
// given, with one system call.
//
// Invariants
// - Every request that was taken is answered once.
// - There are no more requests in flight than there are places; more wait in the kernel.
// - Places are large, and only as much of them is touched as requests fill.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "exports/fuse/file_requests.h"
#include "exports/fuse/ring_protocol.h"
#include "exports/place_ring.h"
#include "io/buffer.h"
#include "io/cancel.h"
#include "io/command_ring.h"
#include "io/task.h"

namespace cairn::fuse {

// How many processors a list of the kernel's names, as "0-3,5"; 0 when it is none.
[[nodiscard]] unsigned count_processors(std::string_view list);
// How many queues the kernel has: one for each processor that there could ever be. 0: not known.
[[nodiscard]] unsigned count_queues();

class RequestQueues {
 public:
  // Makes the ring on the thread that will run it.
  using MakeRing = std::function<Result<std::unique_ptr<io::CommandRing>>(unsigned entries)>;

  // Fails where there can be no ring, or no memory for its places. `requests` outlives this.
  [[nodiscard]] static Result<std::unique_ptr<RequestQueues>> create(unsigned queues,
                                                                     FileRequests& requests,
                                                                     const MakeRing& make_ring);
  RequestQueues(const RequestQueues&) = delete;
  RequestQueues& operator=(const RequestQueues&) = delete;
  // After run().
  ~RequestQueues() = default;

  // Serves until `stop` is cancelled, then takes no more requests, and completes when those that
  // were taken are answered; also when the kernel has taken all places back. Once, when the kernel
  // has agreed; places that are offered go back when this is destroyed.
  [[nodiscard]] io::Task<void> run(io::CancelToken stop);

 private:
  // All places together, unless each queue has but the fewest.
  static constexpr unsigned kPlaces = 128;
  static constexpr unsigned kFewestPlaces = 2;
  static constexpr unsigned kMostPlaces = 32;  // of one queue

  struct Place {
    RingHeader header{};
    std::array<iovec, 2> memory{};
    uint16_t queue = 0;
  };

  RequestQueues(FileRequests& requests, std::unique_ptr<io::CommandRing> ring,
                io::AlignedBuffer payloads, std::size_t places, unsigned queues);

  [[nodiscard]] std::span<std::byte> payload(std::size_t place);
  [[nodiscard]] io::Task<void> serve(std::size_t place);

  FileRequests& requests_;
  io::AlignedBuffer payloads_;
  std::vector<Place> places_;
  exports::PlaceRing ring_;  // goes before the memory that it refers to
};

}  // namespace cairn::fuse
