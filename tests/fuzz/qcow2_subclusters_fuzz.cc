// Any bytes as an extended L2 table of an otherwise sound qcow2 image: entries and bitmaps of
// subclusters that contradict each other, lie anywhere or are compressed. Reading, writing,
// zeroing, discarding, checking and repairing end, and fail with an errno or not at all; what a
// check repairs does not change what can be read.
//
// The first bytes are the requests, four bytes each; the rest is the table.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "block/node.h"
#include "formats/qcow2/driver.h"
#include "tests/fuzz/memory_image.h"
#include "tests/fuzz/small_qcow2.h"

namespace {

using namespace cairn;  // NOLINT(google-build-using-namespace): a program of one page

constexpr uint64_t kCluster = 16 << 10;  // the least that subclusters of a sector allow
constexpr uint64_t kSize = 16 * kCluster;
constexpr std::size_t kRequests = 8;
constexpr std::size_t kRequestBytes = 4;
using P = block::PermissionSet;

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

void expect(const Result<void>& result) { require(result || result.error().code() > 0); }

std::vector<std::byte> make_image(std::span<const std::byte> table) {
  testing::SmallQcow2 image({.cluster_bits = 14,
                             .clusters = 12,
                             .size = kSize,
                             .incompatible = qcow2::kIncompatibleExtendedL2});
  const uint64_t l2 = image.at(testing::SmallQcow2::kFirstFree);
  image.put<uint64_t>(image.at(testing::SmallQcow2::kL1), l2 | qcow2::kEntryCopied);
  image.fill(l2, l2 + kCluster, table);
  for (uint64_t at = l2 + kCluster; at < image.bytes().size(); at += 8) {
    image.put<uint64_t>(at, at);
  }
  return image.bytes();
}

void request(testing::MemoryImage& image, block::Edge& edge, std::span<const std::byte> bytes) {
  const uint64_t offset = load_le<uint16_t>(bytes.data() + 1) * uint64_t{64} % kSize;
  const uint64_t length =
      std::min<uint64_t>((static_cast<uint64_t>(bytes[3]) + 1) * 256, kSize - offset);
  std::vector<std::byte> data(length, std::byte{0x5a});
  switch (static_cast<unsigned>(bytes[0]) % 6) {
    case 0:
    case 1:
      expect(image.run(edge.write(offset, data.data(), length)));
      break;
    case 2:
      expect(image.run(edge.write_zeroes(offset, length, {.may_unmap = true})));
      break;
    case 3:
      expect(image.run(edge.discard(offset, length)));
      break;
    case 4: {
      const auto status = image.run(edge.status(offset, length));
      require(status ? status->length > 0 && status->length <= length : status.error().code() > 0);
      break;
    }
    default:
      expect(image.run(edge.read(offset, data.data(), length)));
  }
}

void change(const std::vector<std::byte>& bytes, std::span<const std::byte> requests) {
  testing::MemoryImage image(bytes, qcow2::kQcow2Driver);
  block::Edge* edge =
      image.open({.discard_unmap = true}, {P::kConsistentRead | P::kWrite, P::all()});
  for (std::size_t i = 0; edge != nullptr && i < kRequests; ++i) {
    request(image, *edge, requests.subspan(i * kRequestBytes, kRequestBytes));
  }
}

void read_all(testing::MemoryImage& image, block::Edge& edge) {
  std::vector<std::byte> cluster(kCluster);
  for (uint64_t at = 0; at < kSize; at += kCluster) {
    expect(image.run(edge.read(at, cluster.data(), cluster.size())));
  }
}

void repair(const std::vector<std::byte>& bytes) {
  testing::MemoryImage image(bytes, qcow2::kQcow2Driver);
  block::Edge* edge = image.open({.check_only = true}, {P::kConsistentRead | P::kWrite, P::all()});
  if (edge == nullptr) {
    return;
  }
  read_all(image, *edge);
  block::CheckOptions options{.fix_leaks = true, .fix_errors = true};
  const auto repaired = image.run(edge->node().driver().check(std::move(options)));
  require(repaired || repaired.error().code() > 0);
  read_all(image, *edge);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kRequests * kRequestBytes) {
    return 0;
  }
  const std::span<const std::byte> input = std::as_bytes(std::span(data, size));
  const std::vector<std::byte> bytes = make_image(input.subspan(kRequests * kRequestBytes));
  repair(bytes);
  change(bytes, input.first(kRequests * kRequestBytes));
  return 0;
}
