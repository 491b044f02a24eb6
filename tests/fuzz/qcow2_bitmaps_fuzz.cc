// Any bytes as the bitmap directory, a bitmap table and bits of an otherwise sound qcow2 image,
// open for writing: it opens or is refused; writing, changing, removing and storing bitmaps ends,
// and fails with an errno or not at all.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "block/node.h"
#include "formats/qcow2/driver.h"
#include "tests/fuzz/memory_image.h"

namespace {

using namespace cairn;  // NOLINT(google-build-using-namespace): a program of one page

constexpr uint64_t kCluster = 512;
constexpr uint64_t kClusters = 16;
constexpr uint64_t kDirectory = 4 * kCluster;  // what follows is the input's

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

void expect(const Result<void>& result) { require(result || result.error().code() > 0); }

template <typename T>
void put(std::vector<std::byte>& image, uint64_t at, T value) {
  store_be(image.data() + at, value);
}

// Version 3 with clusters of 512 bytes: header, refcount table and block, L1 table, and the rest.
std::vector<std::byte> make_image(std::span<const std::byte> input) {
  std::vector<std::byte> image(kClusters * kCluster);
  put<uint32_t>(image, 0, qcow2::kMagic);
  put<uint32_t>(image, 4, 3);
  put<uint32_t>(image, 20, 9);
  put<uint64_t>(image, 24, 1 << 20);
  put<uint32_t>(image, 36, 32);
  put<uint64_t>(image, 40, 3 * kCluster);
  put<uint64_t>(image, 48, kCluster);
  put<uint32_t>(image, 56, 1);
  put<uint64_t>(image, 88, qcow2::kAutoclearBitmaps);
  put<uint32_t>(image, 96, 4);
  put<uint32_t>(image, 100, 104);
  put<uint32_t>(image, 104, static_cast<uint32_t>(qcow2::ExtensionType::kBitmaps));
  put<uint32_t>(image, 108, 24);
  put<uint64_t>(image, kCluster, 2 * kCluster);
  for (uint64_t i = 0; i < kClusters; ++i) {
    put<uint16_t>(image, 2 * kCluster + 2 * i, 1);
  }
  // The input starts with the number of bitmaps and the directory's length.
  put<uint32_t>(image, 112, static_cast<uint32_t>(input[0]));
  put<uint64_t>(image, 120, static_cast<uint64_t>(input[1]) * 8);
  put<uint64_t>(image, 128, kDirectory);
  const auto rest = input.subspan(2);
  std::copy_n(rest.begin(), std::min<uint64_t>(rest.size(), image.size() - kDirectory),
              image.begin() + static_cast<std::ptrdiff_t>(kDirectory));
  return image;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) {
    return 0;
  }
  const std::vector<std::byte> bytes = make_image(std::as_bytes(std::span(data, size)));
  testing::MemoryImage image(bytes, qcow2::kQcow2Driver);
  using P = block::PermissionSet;
  const block::Permissions writer{P::kConsistentRead | P::kWrite | P::kResize, P::all()};
  block::Edge* edge = image.open({}, writer);
  if (edge == nullptr) {
    return 0;
  }
  block::Node& node = edge->node();
  std::vector<std::string> names;
  if (node.bitmaps() != nullptr) {
    for (const auto& bitmap : node.bitmaps()->all()) {
      names.push_back(bitmap->name());
    }
  }
  std::vector<std::byte> sector(512);
  expect(image.run(edge->write(0, sector.data(), sector.size())));
  for (std::size_t i = 0; i < names.size(); ++i) {
    switch (i % 3) {
      case 0:
        expect(image.run(block::merge_bitmaps(node, names[i], {{&node, names.back()}})));
        break;
      case 1:
        expect(image.run(block::remove_bitmap(node, names[i])));
        break;
      default:
        expect(image.run(block::enable_bitmap(node, names[i], false)));
    }
  }
  expect(image.run(block::add_bitmap(node, {.name = "new", .persistent = true})));
  expect(image.run(edge->resize(3 << 20)));
  expect(image.run(edge->write(2 << 20, sector.data(), sector.size())));
  return 0;
}
