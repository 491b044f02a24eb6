// Any bytes as the bitmap directory, the map of what is about to change behind it, a bitmap table
// and bits of an otherwise sound qcow2 image, open for writing: it opens or is refused; writing,
// changing, removing and storing bitmaps ends, and fails with an errno or not at all.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "block/node.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/write_intent.h"
#include "tests/fuzz/memory_image.h"
#include "tests/fuzz/small_qcow2.h"

namespace {

using namespace cairn;  // NOLINT(google-build-using-namespace): a program of one page

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

void expect(const Result<void>& result) { require(result || result.error().code() > 0); }

// No guess of the fuzzer's has the right checksum: the head of the map is made of what it chose.
void put_head(std::vector<std::byte>& bytes, uint64_t directory, std::span<const std::byte> input) {
  const auto choice = std::to_integer<uint32_t>(input[2]);
  const auto most = std::to_integer<std::size_t>(input[0]);
  qcow2::IntentHead head{.directory_offset = directory,
                         .group_bits = qcow2::IntentHead::kLeastGroupBits + (choice >> 4),
                         .sectors = 1 + ((choice >> 1) & 1)};
  head.vouched.resize(std::min(most, qcow2::IntentHead::kMostEntries), (choice & 4) == 0);
  const auto head_bytes = head.serialize();
  constexpr uint64_t kClusterSize = 2048;
  std::ranges::copy(head_bytes, bytes.begin() + static_cast<std::ptrdiff_t>(
                                                    directory + kClusterSize - head_bytes.size()));
}

std::vector<std::byte> make_image(std::span<const std::byte> input) {
  using testing::SmallQcow2;
  const bool has_map = (std::to_integer<unsigned>(input[2]) & 1) != 0;
  SmallQcow2 image({.cluster_bits = has_map ? 11U : 9U,
                    .autoclear = qcow2::kAutoclearBitmaps |
                                 (has_map ? qcow2::kAutoclearWriteIntent : uint64_t{0})});
  const uint64_t directory = image.at(SmallQcow2::kFirstFree);
  uint64_t at = SmallQcow2::kExtensions;
  image.put<uint32_t>(at, static_cast<uint32_t>(qcow2::ExtensionType::kBitmaps));
  image.put<uint32_t>(at + 4, 24);
  // The input starts with the number of bitmaps, the directory's length and whether there is a map.
  at += 8;
  image.put<uint32_t>(at, static_cast<uint32_t>(input[0]));
  image.put<uint64_t>(at + 8, static_cast<uint64_t>(input[1]) * 8);
  image.put<uint64_t>(at + 16, directory);
  image.fill(directory, image.bytes().size(), input.subspan(3));
  std::vector<std::byte> bytes = image.bytes();
  if (has_map) {
    put_head(bytes, directory, input);
  }
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3) {
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
