// Any bytes as a whole qcow2 image, read only: it opens or is refused; translating, reading,
// checking and describing it end, stay in bounds, and fail with an errno or not at all.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "block/node.h"
#include "formats/qcow2/driver.h"
#include "schema/types_block_info.h"
#include "tests/fuzz/memory_image.h"

namespace {

using namespace cairn;  // NOLINT(google-build-using-namespace): a program of one page

constexpr uint64_t kPiece = 64 * 1024;
constexpr int kPieces = 24;

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

// Status and content of a few pieces: the first, the last, and some in between.
void walk(testing::MemoryImage& image, block::Edge& edge) {
  const uint64_t length = edge.length();
  if (length == 0) {
    return;
  }
  std::vector<std::byte> buffer(kPiece);
  for (int i = 0; i < kPieces; ++i) {
    uint64_t offset = i < kPieces / 2 ? static_cast<uint64_t>(i) * kPiece
                                      : length / kPieces * static_cast<uint64_t>(i);
    if (i == kPieces - 1) {
      offset = length - 1;
    }
    if (offset >= length) {
      continue;
    }
    const uint64_t size = std::min(kPiece, length - offset);
    const auto status = image.run(edge.status(offset, size));
    require(status ? status->length > 0 && status->length <= size : status.error().code() > 0);
    const auto read = image.run(edge.read(offset, buffer.data(), size));
    require(read || read.error().code() > 0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  testing::MemoryImage image(std::as_bytes(std::span(data, size)), qcow2::kQcow2Driver);
  const block::OpenFlags flags{.read_only = true, .no_backing = true, .check_only = true};
  const block::Permissions reader{block::PermissionSet::kConsistentRead,
                                  block::PermissionSet::all()};
  block::Edge* edge = image.open(flags, reader);
  if (edge == nullptr) {
    return 0;
  }
  walk(image, *edge);
  block::CheckOptions options;
  uint64_t lines = 0;
  options.report = [&lines](const std::string& line) { lines += line.empty() ? 0 : 1; };
  const auto checked = image.run(edge->node().driver().check(std::move(options)));
  require(!checked || (checked->corruptions >= 0 && checked->leaks >= 0));
  require(!checked || lines >= static_cast<uint64_t>(checked->corruptions + checked->leaks));
  const auto info = image.run(edge->node().driver().specific_info());
  require(info.has_value());
  return 0;
}
