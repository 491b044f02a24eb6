#include "exports/fuse/protocol.h"

#include <algorithm>

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

std::optional<fuse_init_out> negotiate(const InitOffer& offer) {
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
  answer.max_background = kBackgroundRequests;
  answer.congestion_threshold = kBackgroundRequests * 3 / 4;
  answer.max_write = kLargestWrite;
  answer.time_gran = 1;
  answer.max_pages = kLargestWrite / kPage;
  return answer;
}

}  // namespace cairn::fuse
