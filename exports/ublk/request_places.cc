#include "exports/ublk/request_places.h"

#include <poll.h>

#include <utility>

#include "io/operation.h"
#include "io/timer.h"

namespace cairn::ublk {

Result<std::unique_ptr<RequestPlaces>> RequestPlaces::create(Channel& channel,
                                                             const DeviceInfo& device,
                                                             const BlockRequests& requests) {
  const std::size_t places = std::size_t{device.queues} * device.queue_depth;
  auto memory = io::AlignedBuffer::allocate(places * device.buffer_bytes);
  if (!memory) {
    return pass(memory);
  }
  auto ring = channel.make_ring(static_cast<unsigned>(places));
  if (!ring) {
    return pass(ring);
  }
  std::unique_ptr<RequestPlaces> made(
      new RequestPlaces(channel, device, requests, std::move(*memory), std::move(*ring)));
  for (std::size_t place = 0; place < places; ++place) {
    made->offer(PlaceCommand::kFetch, place, 0);
  }
  made->offered_ = places;
  made->ring_->submit();
  return made;
}

RequestPlaces::RequestPlaces(Channel& channel, const DeviceInfo& device,
                             const BlockRequests& requests, io::AlignedBuffer memory,
                             std::unique_ptr<io::CommandRing> ring)
    : channel_(channel),
      device_(device),
      requests_(requests),
      memory_(std::move(memory)),
      ring_(std::move(ring)) {}

std::span<std::byte> RequestPlaces::memory_of(std::size_t place) {
  return memory_.span().subspan(place * device_.buffer_bytes, device_.buffer_bytes);
}

void RequestPlaces::offer(PlaceCommand command, std::size_t place, int32_t result) {
  const PlaceBody body{.queue = queue_of(place),
                       .place = place_in_queue(place),
                       .result = result,
                       .address = reinterpret_cast<uintptr_t>(memory_of(place).data())};
  ring_->add({.operation = number_of(command, (device_.flags & kCommandEncoding) != 0),
              .body = std::as_bytes(std::span(&body, 1)),
              .tag = place});
}

io::Task<void> RequestPlaces::run(io::CancelToken stop) {
  submitting_.spawn(submit_answers());
  while (!stop.cancelled() && offered_ > 0) {
    ring_->submit();
    if (take_requests()) {
      co_await io::yield_now();
      continue;
    }
    const io::OperationRequest request{
        .kind = io::OperationRequest::Kind::kPoll, .fd = ring_->descriptor(), .flags = POLLIN};
    const int64_t ready = co_await io::OperationAwaiter(request, stop);
    if (ready < 0) {
      break;
    }
  }
  co_await tasks_.join();
  ended_.cancel();
  co_await submitting_.join();
  ring_->submit();
}

bool RequestPlaces::take_requests() {
  bool some = false;
  taking_ = true;
  while (const auto completion = ring_->take()) {
    some = true;
    if (completion->result == 0) {
      tasks_.spawn(serve(completion->tag));
    } else {
      --offered_;  // the kernel does not want it any more
    }
  }
  taking_ = false;
  return some;
}

io::Task<void> RequestPlaces::serve(std::size_t place) {
  const RequestDescription asked = channel_.description(queue_of(place), place_in_queue(place));
  auto serving = requests_.serve(asked, memory_of(place));
  const int32_t result = co_await std::move(serving);
  offer(PlaceCommand::kCommitAndFetch, place, result);
  if (!taking_) {
    answered_.set();
  }
}

io::Task<void> RequestPlaces::submit_answers() {
  while (true) {
    const io::CancelToken ended = ended_.token();
    const bool answered = co_await answered_.wait(ended);
    if (!answered) {
      co_return;
    }
    answered_.reset();
    ring_->submit();
  }
}

}  // namespace cairn::ublk
