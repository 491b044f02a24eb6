#include "exports/fuse/protocol.h"

#include <algorithm>
#include <array>

#include "exports/fuse/ring_protocol.h"

namespace cairn::fuse {
namespace {

constexpr uint32_t kMajor = 7;
constexpr uint32_t kOldestMinor = 31;  // Linux 5.4
constexpr uint32_t kNewestMinor = 36;  // whose structures we use
// Requests that the kernel has under way by itself, such as reading ahead and direct I/O.
constexpr uint16_t kBackgroundRequests = 64;

}  // namespace

std::optional<Request> Request::parse(std::span<const std::byte> bytes) {
  Request request;
  if (bytes.size() < sizeof request.header_) {
    return std::nullopt;
  }
  std::memcpy(&request.header_, bytes.data(), sizeof request.header_);
  if (request.header_.len != bytes.size()) {
    return std::nullopt;
  }
  request.body_ = bytes.subspan(sizeof request.header_);
  return request;
}

Request Request::from_parts(const fuse_in_header& header, std::span<const std::byte> arguments,
                            std::size_t payload_size) {
  Request request;
  request.header_ = header;
  request.body_ = arguments;
  request.apart_ = payload_size;
  return request;
}

std::optional<InitOffer> read_offer(const Request& request) {
  constexpr std::size_t kOlder = offsetof(fuse_init_in, flags2);
  using Older = std::array<std::byte, kOlder>;
  const auto older = request.arguments<Older>();
  if (!older) {
    return std::nullopt;
  }
  fuse_init_in in{};
  std::memcpy(&in, older->data(), older->size());
  if (const auto all = request.arguments<fuse_init_in>()) {
    in = *all;
  }
  return InitOffer{.major = in.major,
                   .minor = in.minor,
                   .max_readahead = in.max_readahead,
                   .flags = in.flags,
                   .flags2 = (in.flags & FUSE_INIT_EXT) != 0 ? in.flags2 : 0};
}

bool offers_ring(const InitOffer& offer) {
  return (offer.flags & FUSE_INIT_EXT) != 0 && (offer.flags2 & kOverRing) != 0;
}

std::optional<fuse_init_out> negotiate(const InitOffer& offer, bool over_ring) {
  fuse_init_out answer{};
  answer.major = kMajor;
  if (offer.major > kMajor) {
    return answer;  // it asks again, with ours
  }
  if (offer.major < kMajor || offer.minor < kOldestMinor) {
    return std::nullopt;
  }
  answer.minor = std::min(offer.minor, kNewestMinor);
  answer.max_readahead = offer.max_readahead;
  answer.flags =
      offer.flags & (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES);
  if (over_ring) {
    answer.flags |= FUSE_INIT_EXT;
    answer.flags2 |= kOverRing;
  }
  answer.max_background = kBackgroundRequests;
  answer.congestion_threshold = kBackgroundRequests * 3 / 4;
  answer.max_write = kLargestWrite;
  answer.time_gran = 1;
  answer.max_pages = kLargestWrite / kPage;
  return answer;
}

}  // namespace cairn::fuse
