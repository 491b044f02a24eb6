// Any bytes as the snapshot table of an otherwise sound qcow2 image, and as what it names: it opens
// or is refused; showing, applying, creating and deleting snapshots, writing in between, checking
// and repairing end, and fail with an errno or not at all.
//
// The first byte is the number of snapshots, the next eight are what is done.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "block/node.h"
#include "formats/qcow2/driver.h"
#include "tests/fuzz/memory_image.h"
#include "tests/fuzz/small_qcow2.h"

namespace {

using namespace cairn;  // NOLINT(google-build-using-namespace): a program of one page

constexpr std::size_t kActions = 8;
constexpr uint64_t kSize = 1 << 20;
constexpr uint64_t kMaxSnapshots = 16;
using P = block::PermissionSet;

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

void expect(const Result<void>& result) { require(result || result.error().code() > 0); }

std::vector<std::byte> make_image(std::span<const std::byte> input) {
  testing::SmallQcow2 image({.clusters = 24, .size = kSize});
  const uint64_t table = image.at(testing::SmallQcow2::kFirstFree);
  image.put<uint32_t>(qcow2::header_offset::kSnapshots,
                      static_cast<uint32_t>(input[0]) % kMaxSnapshots);
  image.put<uint64_t>(qcow2::header_offset::kSnapshots + 4, table);
  image.fill(table, image.bytes().size(), input.subspan(1 + kActions));
  return image.bytes();
}

// The id of one of the snapshots; "1" when there are none.
std::string pick(const block::Edge& edge, unsigned number) {
  const auto snapshots = edge.snapshots();
  return snapshots && !snapshots->empty() ? (*snapshots)[number % snapshots->size()].id : "1";
}

void act(testing::MemoryImage& image, block::Edge& edge, unsigned action) {
  static const std::vector<std::byte> data(1024, std::byte{0x5a});
  const std::string id = pick(edge, action >> 3);
  switch (action % 8) {
    case 0:
    case 1:
      expect(image.run(edge.write(action * uint64_t{3001}, data.data(), data.size())));
      break;
    case 2:
    case 3:
      expect(image.run(edge.apply_snapshot(id)));
      break;
    case 4:
    case 5:
      expect(image.run(edge.delete_snapshot(id)));
      break;
    case 6: {
      block::Snapshot snapshot;
      snapshot.name = "new";
      expect(image.run(edge.create_snapshot(std::move(snapshot))));
      break;
    }
    default:
      expect(image.run(edge.flush()));
  }
}

void change(const std::vector<std::byte>& bytes, std::span<const std::byte> actions) {
  testing::MemoryImage image(bytes, qcow2::kQcow2Driver);
  block::Edge* edge = image.open({}, {P::kConsistentRead | P::kWrite | P::kResize, P::all()});
  for (std::size_t i = 0; edge != nullptr && i < actions.size(); ++i) {
    act(image, *edge, static_cast<unsigned>(actions[i]));
  }
}

void show(const std::vector<std::byte>& bytes) {
  testing::MemoryImage image(bytes, qcow2::kQcow2Driver);
  block::Edge* edge = image.open({.read_only = true}, {P::kConsistentRead, P::all()});
  if (edge == nullptr) {
    return;
  }
  expect(image.run(edge->show_snapshot(pick(*edge, 0))));
  std::vector<std::byte> sector(std::min<uint64_t>(512, edge->length()));
  expect(image.run(edge->read(edge->length() - sector.size(), sector.data(), sector.size())));
}

void repair(const std::vector<std::byte>& bytes) {
  testing::MemoryImage image(bytes, qcow2::kQcow2Driver);
  block::Edge* edge = image.open({.check_only = true}, {P::kConsistentRead | P::kWrite, P::all()});
  if (edge == nullptr) {
    return;
  }
  block::CheckOptions options{.fix_leaks = true, .fix_errors = true};
  const auto repaired = image.run(edge->node().driver().check(std::move(options)));
  require(repaired || repaired.error().code() > 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1 + kActions) {
    return 0;
  }
  const std::span<const std::byte> input = std::as_bytes(std::span(data, size));
  const std::vector<std::byte> bytes = make_image(input);
  show(bytes);
  repair(bytes);
  change(bytes, input.subspan(1, kActions));
  return 0;
}
