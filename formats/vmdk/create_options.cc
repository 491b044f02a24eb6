// Options of VMDK's `create`, and what follows from them: names, sizes and headers of extents.
#include <algorithm>
#include <array>
#include <cerrno>

#include <fmt/format.h>

#include "base/bytes.h"
#include "formats/vmdk/create.h"

namespace cairn::vmdk {

namespace {

using Type = block::CreateOptionInfo::Type;

constexpr block::CreateOptionInfo kOptions[] = {
    {.name = "size", .type = Type::kSize, .help = "Virtual disk size"},
    {.name = "adapter_type",
     .type = Type::kString,
     .help = "Virtual adapter type, can be one of ide (default), lsilogic, buslogic or legacyESX"},
    {.name = "backing_file", .type = Type::kString, .help = "File name of a base image"},
    {.name = "backing_fmt", .type = Type::kString, .help = "Must be 'vmdk' if present"},
    {.name = "compat6",
     .type = Type::kBool,
     .help = "VMDK version 6 image",
     .default_value = "off"},
    {.name = "hwversion",
     .type = Type::kString,
     .help = "VMDK hardware version",
     .default_value = "undefined"},
    {.name = "toolsversion", .type = Type::kString, .help = "VMware guest tools version"},
    {.name = "subformat",
     .type = Type::kString,
     .help = "VMDK flat extent format, can be one of {monolithicSparse (default) | "
             "monolithicFlat | twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} "},
    {.name = "zeroed_grain",
     .type = Type::kBool,
     .help = "Enable efficient zero writes using the zeroed-grain GTE feature"},
};

constexpr std::array<Subformat, 5> kSubformats = {{
    {.name = "monolithicSparse"},
    {.name = "monolithicFlat", .flat = true},
    {.name = "twoGbMaxExtentSparse", .split = true},
    {.name = "twoGbMaxExtentFlat", .flat = true, .split = true},
    {.name = "streamOptimized", .compressed = true},
}};
constexpr std::array<std::string_view, 4> kAdapters = {"ide", "buslogic", "lsilogic", "legacyESX"};

constexpr uint64_t kLargestSplitExtent = uint64_t{2} << 30;
// The directories of the one extent, or the list of its files, fit in memory.
constexpr uint64_t kLargestSparseDisk = uint64_t{1} << 50;
constexpr uint64_t kTableSectors = kMostTableEntries * kTableEntryBytes / kSector;
constexpr std::string_view kUndefined = "undefined";

Result<void> choose_versions(const block::CreateOptions& options, CreateParameters& parameters) {
  const bool compat6 = options.boolean("compat6").value_or(false);
  std::string hardware = options.string("hwversion").value_or(std::string(kUndefined));
  if (hardware == kUndefined) {
    hardware = compat6 ? "6" : "4";
  } else if (compat6) {
    return fail(EINVAL, "compat6 cannot be enabled with hwversion set");
  }
  parameters.hardware_version = std::move(hardware);
  parameters.tools_version = options.string("toolsversion").value_or("2147483647");
  return {};
}

}  // namespace

std::span<const block::CreateOptionInfo> create_option_table() { return kOptions; }

Result<CreateParameters> parse_create_options(const block::CreateOptions& options) {
  CreateParameters parameters;
  const auto size = checked_align_up(options.number("size").value_or(0), kSector);
  if (!size || *size > static_cast<uint64_t>(INT64_MAX)) {
    return fail(EFBIG, "The image size is too large for file format 'vmdk'");
  }
  parameters.size = *size;
  const std::string adapter = options.string("adapter_type").value_or("ide");
  const auto known = std::ranges::find(kAdapters, adapter);
  if (known == kAdapters.end()) {
    return fail(EINVAL, "invalid parameter value: {}", adapter);
  }
  parameters.adapter_type = *known;
  if (auto chosen = choose_versions(options, parameters); !chosen) {
    return pass(chosen);
  }
  const std::string name = options.string("subformat").value_or("monolithicSparse");
  const auto subformat = std::ranges::find(kSubformats, name, &Subformat::name);
  if (subformat == kSubformats.end()) {
    return fail(EINVAL, "invalid parameter value: {}", name);
  }
  parameters.subformat = *subformat;
  if (parameters.size > kLargestSparseDisk && (!subformat->flat || subformat->split)) {
    return fail(EFBIG, "The image size is too large for file format 'vmdk'");
  }
  parameters.backing_file = options.string("backing_file").value_or("");
  parameters.backing_format = options.string("backing_fmt").value_or("");
  if (!parameters.backing_format.empty() && parameters.backing_format != "vmdk") {
    return fail(EINVAL, "backing_file must be a vmdk image");
  }
  parameters.zeroed_grain = options.boolean("zeroed_grain").value_or(false);
  if (subformat->flat && !parameters.backing_file.empty()) {
    return fail(ENOTSUP, "Flat image can't have backing file");
  }
  if (subformat->flat && parameters.zeroed_grain) {
    return fail(ENOTSUP, "Flat image can't enable zeroed grain");
  }
  if (parameters.backing_file.find_first_of("\"\n") != std::string::npos) {
    return fail(EINVAL, "The name of a backing file can have neither quotation marks nor lines");
  }
  return parameters;
}

std::vector<uint64_t> extent_sizes(const CreateParameters& parameters) {
  std::vector<uint64_t> sizes;
  if (parameters.subformat.embedded()) {
    sizes.push_back(parameters.size);
    return sizes;
  }
  const uint64_t largest = parameters.subformat.split ? kLargestSplitExtent : parameters.size;
  for (uint64_t left = parameters.size; left > 0; left -= sizes.back()) {
    sizes.push_back(std::min(left, largest));
  }
  return sizes;
}

std::string extent_name(const Subformat& subformat, std::string_view image, std::size_t index) {
  const std::string_view name = image.substr(image.rfind('/') + 1);
  if (subformat.embedded()) {
    return std::string(name);
  }
  const std::size_t dot = std::min(name.rfind('.'), name.size());
  const std::string_view stem = name.substr(0, dot);
  const std::string_view suffix = name.substr(dot);
  if (!subformat.split) {
    return fmt::format("{}-flat{}", stem, suffix);
  }
  return fmt::format("{}-{}{:03}{}", stem, subformat.flat ? 'f' : 's', index + 1, suffix);
}

SparseHeader new_sparse_header(const CreateParameters& parameters, uint64_t size) {
  SparseHeader header;
  header.version = parameters.subformat.compressed ? 3 : parameters.zeroed_grain ? 2 : 1;
  if (parameters.subformat.compressed) {
    header.flags |= kFlagCompressed | kFlagMarkers;
    header.compression = kCompressionDeflate;
  }
  if (parameters.zeroed_grain) {
    header.flags |= kFlagZeroedGrain;
  }
  header.capacity = size / kSector;
  header.descriptor_offset = kDescriptorOffset / kSector;
  header.descriptor_size = kDescriptorSectors;
  const uint64_t tables = directory_entries(header);
  const uint64_t directory = div_round_up(tables * kTableEntryBytes, kSector);
  header.redundant_directory_offset = header.descriptor_offset + header.descriptor_size;
  header.directory_offset = header.redundant_directory_offset + directory + tables * kTableSectors;
  header.overhead =
      align_up(header.directory_offset + directory + tables * kTableSectors, header.grain_size);
  return header;
}

std::vector<std::byte> new_directories(const SparseHeader& header) {
  const uint64_t tables = directory_entries(header);
  const uint64_t directory = div_round_up(tables * kTableEntryBytes, kSector);
  std::vector<std::byte> bytes(directory * kSector * 2);
  const auto fill = [&](std::byte* target, uint64_t offset) {
    for (uint64_t i = 0; i < tables; ++i) {
      store_le<uint32_t>(target + i * kTableEntryBytes,
                         static_cast<uint32_t>(offset + directory + i * kTableSectors));
    }
  };
  fill(bytes.data(), header.redundant_directory_offset);
  fill(bytes.data() + directory * kSector, header.directory_offset);
  return bytes;
}

}  // namespace cairn::vmdk
