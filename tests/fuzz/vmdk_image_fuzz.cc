// Any bytes as a whole VMDK image, or as header, directory and table of an otherwise sound one, or
// as a space-efficient extent: it opens or is refused; translating, reading, writing and checking
// it end, stay in bounds, and fail with an errno or not at all.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "block/node.h"
#include "formats/vmdk/create.h"
#include "formats/vmdk/descriptor.h"
#include "formats/vmdk/driver.h"
#include "formats/vmdk/vmdk.h"
#include "schema/types_block_info.h"
#include "schema/types_block_options.h"
#include "tests/formats/vmdk/se_sparse_image.h"
#include "tests/fuzz/memory_image.h"

namespace {

using namespace cairn;  // NOLINT(google-build-using-namespace): a program of one page

constexpr uint64_t kDisk = 4 << 20;
constexpr uint64_t kPiece = 64 * 1024;
constexpr uint64_t kMostChecked = 256 * kDisk;  // disks of any size would take any time

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

// A sound space-efficient extent with a grain.
std::vector<std::byte> sound_extent() {
  testing::SeSparseImage extent(kDisk / kSector);
  extent.set_grain(0, testing::SeSparseImage::allocated(1));
  return extent.bytes();
}

// Changes: an offset of 16 bits, in units of what it replaces.
template <std::size_t kBytes>
std::vector<std::byte> change(std::vector<std::byte> bytes, std::span<const std::byte> changes,
                              uint64_t unit) {
  for (; changes.size() >= 2 + kBytes; changes = changes.subspan(2 + kBytes)) {
    const uint64_t offset = load_le<uint16_t>(changes.data()) * unit;
    if (offset <= bytes.size() - kBytes) {
      std::copy_n(changes.begin() + 2, kBytes, bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    }
  }
  return bytes;
}

// What the input's first byte says that the rest is: an image, or changes of a sound one.
constexpr unsigned kKinds = 6;
constexpr unsigned kWhole = 0;
constexpr unsigned kCompressed = 3;
constexpr unsigned kWholeExtent = 4;
constexpr unsigned kExtent = 5;

std::vector<std::byte> make_image(unsigned kind, std::span<const std::byte> input) {
  switch (kind) {
    case kWhole:
    case kWholeExtent:
      return {input.begin(), input.end()};
    case kExtent:
      return change<sizeof(uint64_t)>(sound_extent(), input, sizeof(uint64_t));
    default:
      return change<sizeof(uint32_t)>(sound_image(kind == kCompressed), input, 1);
  }
}

// Opens the image's file as the only extent of a disk, as if a descriptor had named it.
io::Task<Result<std::unique_ptr<block::Driver>>> open_extent(
    block::OpenContext& context, const schema::BlockdevOptions& all_options) {
  const auto& options = std::get<schema::BlockdevOptionsGenericCOWFormat>(all_options.branch);
  const Result<block::Edge*> file =
      co_await context.open_child("file", options.file, block::ChildRole::kImage);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  Result<vmdk::VmdkExtent> extent = co_await vmdk::open_se_sparse_extent(**file, 0);
  if (!extent) {
    co_return pass(extent);
  }
  std::vector<vmdk::VmdkExtent> extents;
  extents.push_back(std::move(*extent));
  auto content = std::make_unique<vmdk::ContentId>(**file, 0, "", vmdk::ContentIds{});
  co_return std::make_unique<vmdk::VmdkDriver>(std::move(extents), "seSparse", std::move(content),
                                               false);
}

const block::DriverInfo kExtentDriver = {
    .name = "vmdk",
    .kind = block::DriverInfo::Kind::kFormat,
    .open = open_extent,
};

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
  if (length <= kMostChecked) {
    const auto checked = image.run(edge.node().driver().check({}));
    require(checked || checked.error().code() > 0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const unsigned kind = data[0] % kKinds;
  const std::vector<std::byte> bytes =
      make_image(kind, std::as_bytes(std::span(data, size)).subspan(1));
  const bool is_extent = kind == kWholeExtent || kind == kExtent;
  for (const bool writable : {false, true}) {
    if (writable && is_extent) {
      break;
    }
    testing::MemoryImage image(bytes, is_extent ? kExtentDriver : vmdk::kVmdkDriver);
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
