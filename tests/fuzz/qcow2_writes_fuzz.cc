// Any bytes as a qcow2 image that is written to: requests of all kinds end, and what they do to
// tables and refcounts that contradict themselves stays inside the image.
//
// The input's last bytes are the requests, eight bytes each; the rest is the image.
#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/qcow2/driver.h"
#include "tests/fuzz/memory_image.h"

namespace {

using namespace cairn;  // NOLINT(google-build-using-namespace): a program of one page

constexpr std::size_t kRequests = 12;
constexpr std::size_t kRequestBytes = 8;
constexpr uint64_t kMaxLength = 64 * 1024;

void request(testing::MemoryImage& image, block::Edge& edge, std::span<const uint8_t> bytes) {
  const uint64_t size = edge.length();
  const uint64_t offset = size == 0 ? 0 : load_le<uint32_t>(bytes.data() + 2) * uint64_t{37} % size;
  const uint64_t length =
      std::min<uint64_t>(load_le<uint16_t>(bytes.data() + 6) % kMaxLength, size - offset);
  const bool flag = (bytes[1] & 1) != 0;
  static const std::vector<std::byte> pattern(kMaxLength, std::byte{0x5a});
  std::vector<std::byte> buffer(length);
  // Whether a request succeeds is for other tests; a crash, a hang or a leak is for this one.
  switch (bytes[0] % 7) {
    case 0:
    case 1:
      static_cast<void>(image.run(edge.write(offset, pattern.data(), length, {.fua = flag})));
      break;
    case 2:
      static_cast<void>(image.run(edge.write_zeroes(offset, length, {.may_unmap = flag})));
      break;
    case 3:
      static_cast<void>(image.run(edge.discard(offset, length)));
      break;
    case 4:
      static_cast<void>(image.run(edge.read(offset, buffer.data(), length)));
      break;
    case 5:
      static_cast<void>(image.run(edge.flush()));
      break;
    default: {
      // A hostile image may be of any size; it is made a little longer or shorter.
      const uint64_t wanted = flag ? size + length * 16 : size - std::min(size, length * 16);
      static_cast<void>(image.run(edge.resize(wanted)));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kRequests * kRequestBytes) {
    return 0;
  }
  const std::span<const uint8_t> input(data, size);
  const auto requests = input.last(kRequests * kRequestBytes);
  testing::MemoryImage image(std::as_bytes(input.first(size - requests.size())),
                             qcow2::kQcow2Driver);
  const block::OpenFlags flags{.no_backing = true, .discard_unmap = true};
  const block::Permissions all{block::PermissionSet::all(), block::PermissionSet::all()};
  block::Edge* edge = image.open(flags, all);
  if (edge == nullptr) {
    return 0;
  }
  for (std::size_t i = 0; i < kRequests; ++i) {
    request(image, *edge, requests.subspan(i * kRequestBytes, kRequestBytes));
  }
  return 0;
}
