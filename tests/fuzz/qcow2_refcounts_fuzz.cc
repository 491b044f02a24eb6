// Any bytes as the refcount table and its blocks, in an image whose other tables are sound: a
// repair ends; what it says it has repaired is sound then; and no repair, and no write afterwards,
// changes what the guest has stored.
//
// The first byte is the width of the counts, the second how many clusters the table has, the next
// eight are offsets that are written to; what is left fills the table and the clusters behind.
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

constexpr uint64_t kCluster = 512;
constexpr uint64_t kGuestClusters = 8;  // those that have data
constexpr std::size_t kWrites = 8;
constexpr uint64_t kClusters = 48;
constexpr uint64_t kTables = 24;  // clusters of the file from here on are the input's
using P = block::PermissionSet;

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

std::vector<std::byte> make_image(std::span<const std::byte> input) {
  testing::SmallQcow2 image({.clusters = kClusters,
                             .size = 1 << 20,
                             .refcount_order = static_cast<uint32_t>(input[0]) % 7});
  const uint64_t l2 = testing::SmallQcow2::kFirstFree;
  image.put<uint64_t>(image.at(testing::SmallQcow2::kL1), image.at(l2) | qcow2::kEntryCopied);
  for (uint64_t i = 0; i < kGuestClusters; ++i) {
    const uint64_t place = image.at(l2 + 1 + i);
    image.put<uint64_t>(image.at(l2) + i * 8, place | qcow2::kEntryCopied);
    image.put<uint64_t>(place, i + 1);
  }
  image.put<uint64_t>(qcow2::header_offset::kRefcountTable, image.at(kTables));
  image.put<uint32_t>(qcow2::header_offset::kRefcountTable + 8,
                      1 + static_cast<uint32_t>(input[1]) % 4);
  image.fill(image.at(kTables), image.bytes().size(), input.subspan(2 + kWrites));
  return image.bytes();
}

// The guest's data is where it was; it may only have been written over where that was asked for.
void expect_data(testing::MemoryImage& image, block::Edge& edge) {
  for (uint64_t i = 0; i < kGuestClusters; ++i) {
    std::byte raw[8];
    require(image.run(edge.read(i * kCluster, raw, sizeof raw)).has_value());
    require(load_be<uint64_t>(raw) == i + 1);
  }
}

void repair(const std::vector<std::byte>& bytes) {
  testing::MemoryImage image(bytes, qcow2::kQcow2Driver);
  block::Edge* edge = image.open({.check_only = true}, {P::kConsistentRead | P::kWrite, P::all()});
  if (edge == nullptr) {
    return;
  }
  auto& driver = edge->node().driver();
  block::CheckOptions options{.fix_leaks = true, .fix_errors = true};
  const auto repaired = image.run(driver.check(std::move(options)));
  require(repaired || repaired.error().code() > 0);
  expect_data(image, *edge);
  if (repaired && repaired->check_errors == 0) {
    const auto again = image.run(driver.check({}));
    require(again.has_value() && again->corruptions == 0 && again->leaks == 0);
  }
}

// Without a repair, as a machine would use it. What the counts call free may be handed out, but not
// what holds metadata, nor does a write to one place show at another that has not moved.
void write(const std::vector<std::byte>& bytes, std::span<const std::byte> places) {
  testing::MemoryImage image(bytes, qcow2::kQcow2Driver);
  block::Edge* edge =
      image.open({.discard_unmap = true}, {P::kConsistentRead | P::kWrite, P::all()});
  if (edge == nullptr) {
    return;
  }
  const std::vector<std::byte> data(kCluster, std::byte{0x5a});
  for (const std::byte place : places) {
    const uint64_t at = (kGuestClusters + static_cast<uint64_t>(place)) * kCluster;
    const auto written = image.run(edge->write(at, data.data(), data.size()));
    require(written || written.error().code() > 0);
    std::vector<std::byte> now(kCluster);
    require(!written || (image.run(edge->read(at, now.data(), now.size())) && now == data));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 + kWrites) {
    return 0;
  }
  const std::span<const std::byte> input = std::as_bytes(std::span(data, size));
  const std::vector<std::byte> bytes = make_image(input);
  repair(bytes);
  write(bytes, input.subspan(2, kWrites));
  return 0;
}
