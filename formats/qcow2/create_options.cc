// Options of qcow2's `create`: their names, values and how they go together.
#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <string_view>

#include "base/bytes.h"
#include "block/largest_length.h"
#include "formats/qcow2/create.h"

namespace cairn::qcow2 {

namespace {

using Type = block::CreateOptionInfo::Type;
using block::Preallocation;

using namespace std::string_view_literals;

constexpr uint64_t kSector = 512;
constexpr uint64_t kSmallestSubclusteredCluster = 16384;

constexpr block::CreateOptionInfo kOptions[] = {
    {.name = "encryption",
     .type = Type::kBool,
     .help = "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)"},
    {.name = "encrypt.format",
     .type = Type::kString,
     .help = "Encrypt the image, format choices: 'aes', 'luks'"},
    {.name = "encrypt.key-secret",
     .type = Type::kString,
     .help = "ID of secret providing qcow AES key or LUKS passphrase"},
    {.name = "encrypt.cipher-alg",
     .type = Type::kString,
     .help = "Name of encryption cipher algorithm"},
    {.name = "encrypt.cipher-mode",
     .type = Type::kString,
     .help = "Name of encryption cipher mode"},
    {.name = "encrypt.ivgen-alg", .type = Type::kString, .help = "Name of IV generator algorithm"},
    {.name = "encrypt.ivgen-hash-alg",
     .type = Type::kString,
     .help = "Name of IV generator hash algorithm"},
    {.name = "encrypt.hash-alg",
     .type = Type::kString,
     .help = "Name of encryption hash algorithm"},
    {.name = "encrypt.iter-time",
     .type = Type::kNumber,
     .help = "Time to spend in PBKDF in milliseconds"},
    {.name = "cluster_size",
     .type = Type::kSize,
     .help = "qcow2 cluster size",
     .default_value = "65536"},
    {.name = "extended_l2",
     .type = Type::kBool,
     .help = "Extended L2 tables",
     .default_value = "off"},
    {.name = "preallocation",
     .type = Type::kString,
     .help = "Preallocation mode (allowed values: off, metadata, falloc, full)"},
    {.name = "compression_type",
     .type = Type::kString,
     .help = "Compression method used for image cluster compression",
     .default_value = "zlib"},
    {.name = "size", .type = Type::kSize, .help = "Virtual disk size"},
    {.name = "compat",
     .type = Type::kString,
     .help = "Compatibility level (v2 [0.10] or v3 [1.1])"},
    {.name = "backing_file", .type = Type::kString, .help = "File name of a base image"},
    {.name = "backing_fmt", .type = Type::kString, .help = "Image format of the base image"},
    {.name = "data_file", .type = Type::kString, .help = "File name of an external data file"},
    {.name = "data_file_raw",
     .type = Type::kBool,
     .help = "The external data file must stay valid as a raw image"},
    {.name = "lazy_refcounts",
     .type = Type::kBool,
     .help = "Postpone refcount updates",
     .default_value = "off"},
    {.name = "refcount_bits",
     .type = Type::kNumber,
     .help = "Width of a reference count entry in bits",
     .default_value = "16"},
};

// What may be named as the format of a backing file, whether this program has it or not: the
// drivers of the field's interface.
constexpr std::array kBackingFormats = {"blkdebug"sv,    "blklogwrites"sv, "blkreplay"sv,
                                        "blkverify"sv,   "bochs"sv,        "cloop"sv,
                                        "compress"sv,    "copy-on-read"sv, "copy-before-write"sv,
                                        "dmg"sv,         "file"sv,         "snapshot-access"sv,
                                        "ftp"sv,         "ftps"sv,         "gluster"sv,
                                        "host_cdrom"sv,  "host_device"sv,  "http"sv,
                                        "https"sv,       "iscsi"sv,        "luks"sv,
                                        "nbd"sv,         "nfs"sv,          "null-aio"sv,
                                        "null-co"sv,     "nvme"sv,         "parallels"sv,
                                        "preallocate"sv, "qcow"sv,         "qcow2"sv,
                                        "qed"sv,         "quorum"sv,       "raw"sv,
                                        "rbd"sv,         "replication"sv,  "ssh"sv,
                                        "throttle"sv,    "vdi"sv,          "vhdx"sv,
                                        "vmdk"sv,        "vpc"sv,          "vvfat"sv};

template <typename T>
struct Choice {
  std::string_view text;
  T value;
};

constexpr std::array<Choice<uint32_t>, 4> kVersions = {
    {{"v2", 2}, {"0.10", 2}, {"v3", 3}, {"1.1", 3}}};
constexpr std::array<Choice<CompressionType>, 2> kCompressions = {
    {{"zlib", CompressionType::kDeflate}, {"zstd", CompressionType::kZstd}}};
constexpr std::array<Choice<Preallocation>, 4> kPreallocations = {
    {{"off", Preallocation::kOff},
     {"metadata", Preallocation::kMetadata},
     {"falloc", Preallocation::kFalloc},
     {"full", Preallocation::kFull}}};

// Sets `value` to what `option` says, if it says something. `parameter` is its name in messages.
template <typename T, std::size_t N>
Result<void> choose(const block::CreateOptions& options, std::string_view option,
                    std::string_view parameter, const std::array<Choice<T>, N>& choices, T& value) {
  const auto text = options.string(option);
  if (!text) {
    return {};
  }
  for (const Choice<T>& choice : choices) {
    if (choice.text == *text) {
      value = choice.value;
      return {};
    }
  }
  return fail(EINVAL, "Parameter '{}' does not accept value '{}'", parameter, *text);
}

constexpr std::string_view kVersionAdvice =
    "supported with compatibility level 1.1 and above (use version=v3 or greater)";

bool power_of_two(uint64_t value, uint64_t least, uint64_t most) {
  return std::has_single_bit(value) && value >= least && value <= most;
}

Result<void> check_cluster_size(const CreateParameters& parameters) {
  if (!power_of_two(parameters.cluster_size, 1u << kMinClusterBits, 1u << kMaxClusterBits)) {
    return fail(EINVAL, "Cluster size must be a power of two between {} and {}k",
                1u << kMinClusterBits, (1u << kMaxClusterBits) / 1024);
  }
  return {};
}

Result<void> check_refcount_bits(const CreateParameters& parameters) {
  if (!power_of_two(parameters.refcount_bits, 1, 64)) {
    return fail(EINVAL, "Refcount width must be a power of two and may not exceed 64 bits");
  }
  return {};
}

Result<void> check_subclusters(const CreateParameters& parameters) {
  if (parameters.extended_l2 && parameters.version < 3) {
    return fail(EINVAL, "Extended L2 entries are only {}", kVersionAdvice);
  }
  if (parameters.extended_l2 && parameters.cluster_size < kSmallestSubclusteredCluster) {
    return fail(EINVAL,
                "Extended L2 entries are only supported with cluster sizes of at least {} "
                "bytes",
                kSmallestSubclusteredCluster);
  }
  return {};
}

Result<void> check_backing(const CreateParameters& parameters) {
  if (parameters.preallocation != Preallocation::kOff && !parameters.backing_file.empty() &&
      !parameters.extended_l2) {
    return fail(EINVAL,
                "Backing file and preallocation can only be used at the same time if extended_l2 "
                "is on");
  }
  if (!parameters.backing_format.empty() && parameters.backing_file.empty()) {
    return fail(EINVAL, "Backing format cannot be used without backing file");
  }
  return {};
}

Result<void> check_counts(const CreateParameters& parameters) {
  if (parameters.version < 3 && parameters.lazy_refcounts) {
    return fail(EINVAL, "Lazy refcounts only {}", kVersionAdvice);
  }
  if (auto checked = check_refcount_bits(parameters); !checked) {
    return checked;
  }
  if (parameters.version < 3 && parameters.refcount_bits != 16) {
    return fail(EINVAL,
                "Different refcount widths than 16 bits require compatibility level 1.1 or above "
                "(use version=v3 or greater)");
  }
  return {};
}

Result<void> check_data_file(const CreateParameters& parameters) {
  if (parameters.data_file_raw && parameters.data_file.empty()) {
    return fail(EINVAL, "data-file-raw requires data-file");
  }
  if (parameters.data_file_raw && !parameters.backing_file.empty()) {
    return fail(EINVAL, "Backing file and data-file-raw cannot be used at the same time");
  }
  if (parameters.version < 3 && !parameters.data_file.empty()) {
    return fail(EINVAL, "External data files are only {}", kVersionAdvice);
  }
  return {};
}

bool within_limits(const CreateParameters& parameters) {
  return parameters.size <= static_cast<uint64_t>(INT64_MAX) &&
         geometry_of(parameters).l1_entries_for(parameters.size) <= kMaxL1Bytes / kL1EntryBytes;
}

}  // namespace

Geometry geometry_of(const CreateParameters& parameters) {
  return {.cluster_bits = static_cast<uint32_t>(std::countr_zero(parameters.cluster_size)),
          .refcount_order = static_cast<uint32_t>(std::countr_zero(parameters.refcount_bits)),
          .l2_entry_bytes = parameters.extended_l2 ? kL2ExtendedEntryBytes : kL2EntryBytes};
}

std::span<const block::CreateOptionInfo> create_option_table() { return kOptions; }

Result<CreateParameters> parse_create_options(const block::CreateOptions& options) {
  CreateParameters parameters;
  auto parsed = choose(options, "compat", "version", kVersions, parameters.version);
  if (parsed) {
    parsed = choose(options, "preallocation", "preallocation", kPreallocations,
                    parameters.preallocation);
  }
  if (parsed) {
    parsed = choose(options, "compression_type", "compression-type", kCompressions,
                    parameters.compression);
  }
  const auto backing_format = options.string("backing_fmt");
  if (parsed && backing_format &&
      std::ranges::find(kBackingFormats, *backing_format) == kBackingFormats.end()) {
    parsed = fail(EINVAL, "Parameter 'backing-fmt' does not accept value '{}'", *backing_format);
  }
  if (!parsed) {
    return pass(parsed);
  }
  if (auto encrypted = parse_encryption(options, parameters); !encrypted) {
    return pass(encrypted);
  }
  const auto size = checked_align_up(options.number("size").value_or(0), kSector);
  if (!size) {
    return fail(EFBIG, "Image size is too large");
  }
  parameters.size = *size;
  parameters.cluster_size = options.number("cluster_size").value_or(parameters.cluster_size);
  parameters.refcount_bits = options.number("refcount_bits").value_or(parameters.refcount_bits);
  parameters.lazy_refcounts = options.boolean("lazy_refcounts").value_or(false);
  parameters.extended_l2 = options.boolean("extended_l2").value_or(false);
  parameters.backing_file = options.string("backing_file").value_or("");
  parameters.backing_format = options.string("backing_fmt").value_or("");
  parameters.data_file = options.string("data_file").value_or("");
  parameters.data_file_raw = options.boolean("data_file_raw").value_or(false);
  return parameters;
}

Result<CreateParameters> parse_measure_options(const block::CreateOptions& options) {
  constexpr std::array kApart = {"compat"sv, "preallocation"sv, "compression_type"sv,
                                 "backing_fmt"sv};
  block::CreateOptions kept(options.table());
  for (const block::CreateOptionInfo& info : options.table()) {
    if (options.has(info.name) && std::ranges::find(kApart, info.name) == kApart.end()) {
      const Result<void> set = kept.set(info.name, *options.string(info.name));
      static_cast<void>(set);  // it was right before
    }
  }
  Result<CreateParameters> parameters = parse_create_options(kept);
  Result<void> checked = parameters ? check_cluster_size(*parameters) : pass(parameters);
  if (checked && !choose(options, "compat", "", kVersions, parameters->version)) {
    checked = fail(EINVAL, "Invalid compatibility level: '{}'", *options.string("compat"));
  }
  if (checked) {
    checked = check_refcount_bits(*parameters);
  }
  if (checked && parameters->version < 3 && parameters->refcount_bits != 16) {
    checked = fail(EINVAL,
                   "Different refcount widths than 16 bits require compatibility level 1.1 or "
                   "above (use compat=1.1 or greater)");
  }
  if (checked &&
      !choose(options, "preallocation", "", kPreallocations, parameters->preallocation)) {
    checked = fail(EINVAL, "invalid parameter value: {}", *options.string("preallocation"));
  }
  if (!checked) {
    return pass(checked);
  }
  return parameters;
}

Result<void> check_geometry(const CreateParameters& parameters) {
  if (auto checked = check_cluster_size(parameters); !checked) {
    return checked;
  }
  if (auto checked = check_counts(parameters); !checked) {
    return checked;
  }
  if (auto checked = check_subclusters(parameters); !checked) {
    return checked;
  }
  if (!within_limits(parameters)) {
    return fail(EFBIG, "The image size is too large (try using a larger cluster size)");
  }
  return {};
}

Result<void> check_create_parameters(const CreateParameters& parameters) {
  // Of several things that are wrong the field tells of the first in this order.
  for (const auto check :
       {check_cluster_size, check_subclusters, check_backing, check_counts, check_data_file}) {
    if (auto checked = check(parameters); !checked) {
      return checked;
    }
  }
  if (parameters.version < 3 && parameters.compression != CompressionType::kDeflate) {
    return fail(EINVAL, "Non-zlib compression type is only {}", kVersionAdvice);
  }
  if (parameters.size > static_cast<uint64_t>(INT64_MAX)) {
    return fail(EINVAL, "Could not resize image: Image size cannot be negative");
  }
  if (parameters.size > block::kLargestLength) {
    return fail(EINVAL, "Could not resize image: offset({}) exceeds maximum({})", parameters.size,
                block::kLargestLength);
  }
  if (!within_limits(parameters)) {
    return fail(EFBIG,
                "The image size is too large for file format 'qcow2' (try using a larger cluster "
                "size)");
  }
  return {};
}

}  // namespace cairn::qcow2
