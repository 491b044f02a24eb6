#include "exports/fuse/request_queues.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <utility>

namespace cairn::fuse {
namespace {

std::span<const std::byte> bytes_of(const RingCommandBody& body) {
  return std::as_bytes(std::span(&body, 1));
}

}  // namespace

unsigned count_processors(std::string_view list) {
  unsigned count = 0;
  const char* at = list.data();
  const char* const end = at + list.size();
  const auto number = [&at, end](unsigned& value) {
    const auto [next, error] = std::from_chars(at, end, value);
    at = next;
    return error == std::errc() && value <= UINT16_MAX;
  };
  do {
    unsigned first = 0;
    if (!number(first)) {
      return 0;
    }
    unsigned last = first;
    if (at != end && *at == '-') {
      ++at;
      if (!number(last) || last < first) {
        return 0;
      }
    }
    count += last - first + 1;
    if (at == end) {
      return count;
    }
  } while (*at++ == ',');
  return 0;
}

unsigned count_queues() {
  std::ifstream file("/sys/devices/system/cpu/possible");
  std::string list;
  return std::getline(file, list) ? count_processors(list) : 0;
}

Result<std::unique_ptr<RequestQueues>> RequestQueues::create(unsigned queues,
                                                             FileRequests& requests,
                                                             const MakeRing& make_ring) {
  if (queues == 0 || queues > UINT16_MAX) {
    return fail(ENOTSUP, "The number of this machine's processors is not known");
  }
  const unsigned each = std::clamp(kPlaces / queues, kFewestPlaces, kMostPlaces);
  const std::size_t places = std::size_t{each} * queues;
  auto payloads = io::AlignedBuffer::allocate(places * kLargestWrite);
  if (!payloads) {
    return pass(payloads);
  }
  auto ring = make_ring(static_cast<unsigned>(places));
  if (!ring) {
    return pass(ring);
  }
  return std::unique_ptr<RequestQueues>(
      new RequestQueues(requests, std::move(*ring), std::move(*payloads), places, queues));
}

RequestQueues::RequestQueues(FileRequests& requests, std::unique_ptr<io::CommandRing> ring,
                             io::AlignedBuffer payloads, std::size_t places, unsigned queues)
    : requests_(requests), payloads_(std::move(payloads)), places_(places), ring_(std::move(ring)) {
  for (std::size_t i = 0; i < places; ++i) {
    Place& place = places_[i];
    place.queue = static_cast<uint16_t>(i % queues);
    place.memory = {iovec{&place.header, sizeof place.header},
                    iovec{payload(i).data(), payload(i).size()}};
  }
}

std::span<std::byte> RequestQueues::payload(std::size_t place) {
  return payloads_.span().subspan(place * kLargestWrite, kLargestWrite);
}

io::Task<void> RequestQueues::run(io::CancelToken stop) {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const Place& place = places_[i];
    const RingCommandBody body{.flags = 0, .commit = 0, .queue = place.queue, .padding = {}};
    ring_.offer({.operation = static_cast<uint32_t>(RingCommand::kRegister),
                 .address = place.memory.data(),
                 .length = static_cast<uint32_t>(place.memory.size()),
                 .body = bytes_of(body),
                 .tag = i});
  }
  return ring_.run([this](std::size_t place) { return serve(place); }, std::move(stop));
}

io::Task<void> RequestQueues::serve(std::size_t index) {
  Place& place = places_[index];
  fuse_in_header asked{};
  std::memcpy(&asked, place.header.header, sizeof asked);
  const Request request =
      Request::from_parts(asked, place.header.arguments, place.header.entry.payload_size);
  auto serving = requests_.serve(request, payload(index));
  const Reply reply = co_await std::move(serving);
  fuse_out_header told{};
  told.len = static_cast<uint32_t>(sizeof told + reply.length);
  told.error = -reply.code;
  told.unique = asked.unique;
  std::memcpy(place.header.header, &told, sizeof told);
  place.header.entry.payload_size = static_cast<uint32_t>(reply.length);
  const RingCommandBody body{
      .flags = 0, .commit = place.header.entry.commit, .queue = place.queue, .padding = {}};
  ring_.answer({.operation = static_cast<uint32_t>(RingCommand::kCommitAndFetch),
                .body = bytes_of(body),
                .tag = index});
}

}  // namespace cairn::fuse
