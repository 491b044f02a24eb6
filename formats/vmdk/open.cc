// The format's entry in the driver table, and opening: which files an image consists of.
#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>
#include <utility>
#include <variant>

#include "base/bytes.h"
#include "block/graph.h"
#include "block/open_backing.h"
#include "formats/vmdk/create.h"
#include "formats/vmdk/driver.h"
#include "formats/vmdk/vmdk.h"
#include "schema/types_block_options.h"

namespace cairn::vmdk {

namespace {

using Opened = Result<std::unique_ptr<block::Driver>>;

// Descriptors longer than this are cut.
constexpr uint64_t kLongestDescriptor = 1 << 20;

// Everything that is known of an image when its files are open.
struct Parts {
  std::vector<VmdkExtent> extents;
  std::string create_type;
  uint64_t descriptor_offset = 0;
  std::string descriptor;
};

// A part of the file; what lies beyond its end is left out.
io::Task<Result<std::string>> read_text(block::Edge& file, uint64_t offset, uint64_t length) {
  const uint64_t end = file.length();
  std::string bytes(offset < end ? std::min(length, end - offset) : 0, '\0');
  if (!bytes.empty()) {
    Result<void> read = co_await file.read(offset, bytes.data(), bytes.size());
    if (!read) {
      co_return pass(read);
    }
  }
  co_return bytes;
}

io::Task<Result<HeaderSector>> read_first_sector(block::Edge& file) {
  HeaderSector sector{};
  if (file.length() == 0) {
    co_return fail(EINVAL, "File is too small, not a valid image");
  }
  const uint64_t present = std::min<uint64_t>(file.length(), kSector);
  if (present > 0) {
    Result<void> read = co_await file.read(0, sector.data(), present);
    if (!read) {
      co_return pass(read);
    }
  }
  co_return sector;
}

io::Task<Result<VmdkExtent>> open_sparse_file(block::Edge& file, uint64_t begin, bool writable) {
  const Result<HeaderSector> sector = co_await read_first_sector(file);
  if (!sector) {
    co_return std::unexpected(sector.error());
  }
  SparseHeader header;
  switch (load_le<uint32_t>(sector->data())) {
    case kSparseMagic:
      header = parse_sparse_header(*sector);
      break;
    case kCowMagic:
      if (writable) {
        co_return fail(ENOTSUP, "Extents of type COWD ('{}') can only be read",
                       file.node().filename());
      }
      header = parse_cow_header(*sector);
      break;
    default:
      co_return fail(EINVAL, "Image not in VMDK format");
  }
  co_return co_await open_sparse_extent(file, header, begin, writable);
}

// These are only read; a node that may be read only becomes so.
io::Task<Result<VmdkExtent>> open_se_sparse_file(block::OpenContext& context, block::Edge& file,
                                                 uint64_t begin) {
  if (context.writable()) {
    if (!context.node().options().auto_read_only) {
      co_return fail(EACCES, "No write support for seSparse images available");
    }
    context.set_read_only();
  }
  co_return co_await open_se_sparse_extent(file, begin);
}

Result<VmdkExtent> open_flat_file(block::Edge& file, const ExtentLine& line, uint64_t begin) {
  const auto bytes = checked_mul(line.sectors, kSector);
  const auto offset = checked_mul(line.offset, kSector);
  const auto end = bytes ? checked_add(begin, *bytes) : std::nullopt;
  const auto file_end = bytes && offset ? checked_add(*offset, *bytes) : std::nullopt;
  constexpr auto kLargest = static_cast<uint64_t>(INT64_MAX);
  if (!end || *end > kLargest || !file_end || *file_end > kLargest) {
    return fail_errno(EFBIG, "Could not refresh total sector count");
  }
  VmdkExtent extent;
  extent.file = &file;
  extent.begin = begin;
  extent.end = *end;
  extent.flat_offset = *offset;
  return extent;
}

io::Task<Result<void>> open_extents(block::OpenContext& context, Parts& parts) {
  Result<std::vector<ExtentLine>> lines = parse_extents(parts.descriptor);
  if (!lines) {
    co_return pass(lines);
  }
  uint64_t opened = 0;
  for (const ExtentLine& line : *lines) {
    const bool flat = line.type == ExtentLine::Type::kFlat || line.type == ExtentLine::Type::kVmfs;
    std::string child = fmt::format("extents.{}", opened++);
    const block::ChildRole role = flat ? block::ChildRole::kData : block::ChildRole::kImage;
    Result<block::Edge*> file =
        co_await context.open_implicit_extent(std::move(child), line.filename, role);
    if (!file) {
      co_return pass(file);
    }
    if (*file == nullptr) {  // the image is opened anew, and another program has changed it
      co_return fail(EINVAL, "The descriptor names another number of extents than before");
    }
    const uint64_t begin = parts.extents.empty() ? 0 : parts.extents.back().end;
    Result<VmdkExtent> extent;
    if (flat) {
      extent = open_flat_file(**file, line, begin);
    } else if (line.type == ExtentLine::Type::kSeSparse) {
      extent = co_await open_se_sparse_file(context, **file, begin);
    } else {
      extent = co_await open_sparse_file(**file, begin, context.writable());
    }
    if (!extent) {
      co_return pass(extent);
    }
    extent->type = to_string(line.type);
    if (extent->end == begin) {
      continue;
    }
    if (extent->codec != nullptr) {
      parts.create_type = "streamOptimized";
      if (context.writable() && lines->size() > 1) {
        co_return fail(ENOTSUP, "Compressed grains in one of several extents can only be read");
      }
    }
    parts.extents.push_back(std::move(*extent));
  }
  co_return Result<void>{};
}

io::Task<Result<void>> open_by_descriptor(block::OpenContext& context, Parts& parts) {
  constexpr std::string_view kTypes[] = {"monolithicFlat",       "vmfs",
                                         "vmfsSparse",           "seSparse",
                                         "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"};
  Result<std::string> type = parse_create_type(parts.descriptor);
  if (!type) {
    co_return pass(type);
  }
  if (std::ranges::find(kTypes, *type) == std::end(kTypes)) {
    co_return fail(ENOTSUP, "Unsupported image type '{}'", *type);
  }
  parts.create_type = std::move(*type);
  co_return co_await open_extents(context, parts);
}

io::Task<Result<void>> read_descriptor(block::Edge& file, Parts& parts, uint64_t offset,
                                       uint64_t length) {
  const Result<std::string> bytes = co_await read_text(file, offset, length);
  if (!bytes) {
    co_return std::unexpected(bytes.error());
  }
  parts.descriptor_offset = offset;
  parts.descriptor = std::string(descriptor_text(*bytes));
  co_return Result<void>{};
}

// The image is one file, or `file` is a descriptor.
io::Task<Result<void>> open_parts(block::OpenContext& context, block::Edge& file, Parts& parts) {
  const Result<HeaderSector> sector = co_await read_first_sector(file);
  if (!sector) {
    co_return std::unexpected(sector.error());
  }
  if (file.length() == 0) {
    co_return fail(EINVAL, "File is too small, not a valid image");
  }
  const auto magic = load_le<uint32_t>(sector->data());
  if (magic != kSparseMagic && magic != kCowMagic) {
    Result<void> read = co_await read_descriptor(file, parts, 0, kLongestDescriptor);
    if (!read) {
      co_return read;
    }
    co_return co_await open_by_descriptor(context, parts);
  }
  Result<void> read =
      co_await read_descriptor(file, parts, kDescriptorOffset, kDescriptorSectors * kSector);
  if (!read) {
    co_return read;
  }
  if (magic == kSparseMagic && parse_sparse_header(*sector).capacity == 0 &&
      parse_sparse_header(*sector).descriptor_offset != 0) {
    co_return co_await open_by_descriptor(context, parts);
  }
  Result<VmdkExtent> extent = co_await open_sparse_file(file, 0, context.writable());
  if (!extent) {
    co_return pass(extent);
  }
  parts.create_type = extent->codec != nullptr ? "streamOptimized" : "monolithicSparse";
  if (magic == kCowMagic) {
    parts.create_type = "vmfsSparse";
  }
  parts.extents.push_back(std::move(*extent));
  co_return Result<void>{};
}

// `all_options` lives until the graph has opened the node.
io::Task<Opened> open_image(block::OpenContext& context,
                            const schema::BlockdevOptions& all_options) {
  const auto& options = std::get<schema::BlockdevOptionsGenericCOWFormat>(all_options.branch);
  const Result<block::Edge*> file =
      co_await context.open_child("file", options.file, block::ChildRole::kImage);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  Parts parts;
  Result<void> opened = co_await open_parts(context, **file, parts);
  if (!opened) {
    co_return pass(opened);
  }
  Result<ContentIds> ids = parse_content_ids(parts.descriptor);
  if (!ids) {
    co_return fail_errno(EINVAL, "Could not open '{}'", (*file)->node().filename());
  }
  const Result<block::Edge*> parent =
      co_await block::open_backing(context, options.backing, ids->parent_name, "vmdk");
  if (!parent) {
    co_return std::unexpected(parent.error());
  }
  auto content = std::make_unique<ContentId>(**file, parts.descriptor_offset,
                                             std::move(parts.descriptor), std::move(*ids));
  co_return std::make_unique<VmdkDriver>(std::move(parts.extents), std::move(parts.create_type),
                                         std::move(content), context.writable());
}

int probe(std::span<const std::byte> head, std::string_view /*filename*/) {
  if (head.size() >= sizeof(uint32_t)) {
    const auto magic = load_le<uint32_t>(head.data());
    if (magic == kSparseMagic || magic == kCowMagic) {
      return 100;
    }
  }
  return probe_descriptor({reinterpret_cast<const char*>(head.data()), head.size()});
}

}  // namespace

const block::DriverInfo kVmdkDriver{
    .name = "vmdk",
    .kind = block::DriverInfo::Kind::kFormat,
    .open = open_image,
    .probe = probe,
    .create_options = create_option_table(),
    .create = create_image,
    .create_on_extents = create_image_on,
    .supports_backing = true,
};

}  // namespace cairn::vmdk
