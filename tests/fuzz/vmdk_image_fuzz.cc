// Any bytes as a whole VMDK image, or as header, directory and table of an otherwise sound one: it
// opens or is refused; translating, reading, writing and checking it end, stay in bounds, and fail
// with an errno or not at all.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/vmdk/create.h"
#include "formats/vmdk/descriptor.h"
#include "formats/vmdk/vmdk.h"
#include "schema/types_block_info.h"
#include "tests/fuzz/memory_image.h"

namespace {

using namespace cairn;  // NOLINT(google-build-using-namespace): a program of one page

constexpr uint64_t kDisk = 4 << 20;
constexpr uint64_t kPiece = 64 * 1024;

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

// A sound image with one grain.
std::vector<std::byte> sound_image(bool compressed) {
  vmdk::CreateParameters parameters;
  parameters.subformat.compressed = compressed;
  parameters.zeroed_grain = true;
  const vmdk::SparseHeader header = vmdk::new_sparse_header(parameters, kDisk);
  std::vector<std::byte> bytes(header.overhead * kSector + kPiece);
  const auto place = [&bytes](uint64_t offset, const void* data, std::size_t length) {
    std::memcpy(bytes.data() + offset, data, length);
  };
  const vmdk::HeaderSector sector = vmdk::serialize_sparse_header(header);
  place(0, sector.data(), sector.size());
  const std::vector<std::byte> directories = vmdk::new_directories(header);
  const std::size_t half = directories.size() / 2;
  place(header.redundant_directory_offset * kSector, directories.data(), half);
  place(header.directory_offset * kSector, directories.data() + half, half);
  store_le<uint32_t>(bytes.data() + header.directory_offset * kSector + half,
                     static_cast<uint32_t>(header.overhead));
  const std::string text = vmdk::make_descriptor({.id = 1,
                                                  .parent = vmdk::kNoParent,
                                                  .create_type = "monolithicSparse",
                                                  .parent_name = "",
                                                  .extents = "",
                                                  .hardware_version = "4",
                                                  .adapter_type = "ide",
                                                  .tools_version = "1"});
  place(vmdk::kDescriptorOffset, text.data(), text.size());
  return bytes;
}

// The input's first byte says what the rest is: the image, or changes of a sound one.
std::vector<std::byte> make_image(std::span<const std::byte> input) {
  if (input.empty()) {
    return {};
  }
  const auto kind = std::to_integer<unsigned>(input.front());
  input = input.subspan(1);
  if (kind % 4 == 0) {
    return {input.begin(), input.end()};
  }
  std::vector<std::byte> bytes = sound_image(kind % 4 == 3);
  constexpr std::size_t kChange = 6;  // an offset and four bytes
  for (; input.size() >= kChange; input = input.subspan(kChange)) {
    const uint64_t offset = load_le<uint16_t>(input.data());
    std::copy_n(input.begin() + 2, 4, bytes.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  return bytes;
}

void play(testing::MemoryImage& image, block::Edge& edge) {
  const uint64_t length = edge.length();
  std::vector<std::byte> buffer(kPiece);
  for (const uint64_t at : {uint64_t{0}, kPiece - 512, kDisk / 2, length - 512}) {
    if (at >= length) {
      continue;
    }
    const uint64_t size = std::min(kPiece, length - at);
    const auto status = image.run(edge.status(at, size));
    require(status ? status->length > 0 && status->length <= size : status.error().code() > 0);
    const auto read = image.run(edge.read(at, buffer.data(), size));
    require(read || read.error().code() > 0);
    if (!edge.node().read_only()) {
      const auto written = image.run(edge.write(at, buffer.data(), std::min<uint64_t>(size, 4096)));
      require(written || written.error().code() > 0);
      const auto zeroed = image.run(edge.write_zeroes(at, size));
      require(zeroed || zeroed.error().code() > 0);
    }
  }
  const auto flushed = image.run(edge.flush());
  require(flushed || flushed.error().code() > 0);
  require(image.run(edge.node().driver().specific_info()).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<std::byte> bytes = make_image(std::as_bytes(std::span(data, size)));
  for (const bool writable : {false, true}) {
    testing::MemoryImage image(bytes, vmdk::kVmdkDriver);
    using P = block::PermissionSet;
    const block::Permissions user{writable ? P::kConsistentRead | P::kWrite : P(P::kConsistentRead),
                                  P::all()};
    block::Edge* edge = image.open({.read_only = !writable, .no_backing = true}, user);
    if (edge != nullptr) {
      play(image, *edge);
    }
  }
  return 0;
}
