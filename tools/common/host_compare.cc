#include "tools/common/host_compare.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "io/worker_pool.h"

namespace cairn::tools {
namespace {

constexpr uint64_t kPart = 64u << 10;  // bytes of each image that are looked at together

struct Place {
  int fd = -1;
  uint64_t offset = 0;
};

std::optional<uint64_t> count_equal(Place first, Place second, uint64_t length) {
  thread_local std::vector<std::byte> buffers(2 * kPart);
  for (uint64_t done = 0; done < length;) {
    const uint64_t part = std::min(kPart, length - done);
    const std::array<std::span<std::byte>, 2> read = {std::span(buffers).first(part),
                                                      std::span(buffers).subspan(kPart, part)};
    if (!read_whole(first.fd, first.offset + done, read[0]) ||
        !read_whole(second.fd, second.offset + done, read[1])) {
      return std::nullopt;
    }
    if (std::memcmp(read[0].data(), read[1].data(), part) != 0) {
      const auto differ = std::ranges::mismatch(read[0], read[1]);
      return done + static_cast<uint64_t>(differ.in1 - read[0].begin());
    }
    done += part;
  }
  return length;
}

}  // namespace

io::Task<std::optional<uint64_t>> HostCompare::equal_bytes(jobs::StoredAt first,
                                                           jobs::StoredAt second, uint64_t length) {
  const Place a{.fd = files_.find(*first.node), .offset = first.offset};
  const Place b{.fd = files_.find(*second.node), .offset = second.offset};
  if (a.fd < 0 || b.fd < 0) {
    co_return std::nullopt;
  }
  auto work = io::WorkerPool::shared().run([a, b, length] { return count_equal(a, b, length); });
  co_return co_await work;
}

}  // namespace cairn::tools
