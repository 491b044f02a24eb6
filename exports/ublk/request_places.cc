#include "exports/ublk/request_places.h"

#include <utility>

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
    made->offer(place);
  }
  made->ring_.submit();
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

void RequestPlaces::offer(std::size_t place) {
  const PlaceBody body = body_of(place, 0);
  ring_.offer(command(PlaceCommand::kFetch, place, body));
}

PlaceBody RequestPlaces::body_of(std::size_t place, int32_t result) {
  return {.queue = queue_of(place),
          .place = place_in_queue(place),
          .result = result,
          .address = reinterpret_cast<uintptr_t>(memory_of(place).data())};
}

io::CommandRing::Command RequestPlaces::command(PlaceCommand what, std::size_t place,
                                                const PlaceBody& body) const {
  return {.operation = number_of(what, (device_.flags & kCommandEncoding) != 0),
          .body = std::as_bytes(std::span(&body, 1)),
          .tag = place};
}

io::Task<void> RequestPlaces::run(io::CancelToken stop) {
  return ring_.run([this](std::size_t place) { return serve(place); }, std::move(stop));
}

io::Task<void> RequestPlaces::serve(std::size_t place) {
  const RequestDescription asked = channel_.description(queue_of(place), place_in_queue(place));
  auto serving = requests_.serve(asked, memory_of(place));
  const int32_t result = co_await std::move(serving);
  const PlaceBody body = body_of(place, result);
  ring_.answer(command(PlaceCommand::kCommitAndFetch, place, body));
}

}  // namespace cairn::ublk
