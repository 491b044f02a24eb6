// Qcow2Driver: changing options that the image was created with.
//
// Every step leaves a sound image that has some of the new options: the version goes up first, then
// come the fields of the header, what version 2 does not have goes (bitmaps) or becomes something
// else one by one (zero clusters), the refcounts get another width with one write of the header,
// and the version goes down last.
#include <algorithm>
#include <bit>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "block/create_options.h"
#include "block/node.h"
#include "formats/qcow2/create.h"
#include "formats/qcow2/driver.h"
#include "formats/qcow2/refcount_rebuild.h"

namespace cairn::qcow2 {
namespace {

using AmendType = block::CreateOptionInfo::Type;

constexpr block::CreateOptionInfo kAmendOptions[] = {
    {.name = "backing_file", .help = "File name of a base image"},
    {.name = "backing_fmt", .help = "Image format of the base image"},
    {.name = "compat", .help = "Compatibility level (v2 [0.10] or v3 [1.1])"},
    {.name = "data_file", .help = "File name of an external data file"},
    {.name = "data_file_raw",
     .type = AmendType::kBool,
     .help = "The external data file must stay valid as a raw image"},
    {.name = "encrypt.iter-time",
     .type = AmendType::kNumber,
     .help = "Time to spend in PBKDF in milliseconds"},
    {.name = "encrypt.keyslot",
     .type = AmendType::kNumber,
     .help = "Select a single keyslot to modify explicitly"},
    {.name = "encrypt.new-secret",
     .help = "New secret to set in the matching keyslots. Empty string to erase"},
    {.name = "encrypt.old-secret", .help = "Select all keyslots that match this password"},
    {.name = "encrypt.state", .help = "Select new state of affected keyslots (active/inactive)"},
    {.name = "lazy_refcounts", .type = AmendType::kBool, .help = "Postpone refcount updates"},
    {.name = "refcount_bits",
     .type = AmendType::kNumber,
     .help = "Width of a reference count entry in bits"},
    {.name = "size", .type = AmendType::kSize, .help = "Virtual disk size"},
};

Result<uint32_t> version_of(const std::string& compat) {
  if (compat == "0.10" || compat == "v2") {
    return 2u;
  }
  if (compat == "1.1" || compat == "v3") {
    return 3u;
  }
  return fail(EINVAL, "Unknown compatibility level {}", compat);
}

bool amends_encryption(const block::CreateOptions& options) {
  return std::ranges::any_of(kAmendOptions, [&options](const block::CreateOptionInfo& info) {
    return info.name.starts_with("encrypt.") && options.has(info.name);
  });
}

Result<void> check_amended_files(const block::CreateOptions& options, const Header& header) {
  if (options.has("data_file") && !header.has(kIncompatibleDataFile)) {
    return fail(EINVAL, "data-file can only be set for images that use an external data file");
  }
  const bool is_raw = (header.autoclear_features & kAutoclearDataFileRaw) != 0;
  if (options.boolean("data_file_raw").value_or(is_raw) && !is_raw) {
    return fail(EINVAL, "data-file-raw cannot be set on existing images");
  }
  // Who says one of the two says both.
  const bool given = options.has("backing_file") || options.has("backing_fmt");
  if (given && (options.string("backing_file").value_or("") != header.backing_file ||
                options.string("backing_fmt").value_or("") != header.backing_format())) {
    return fail(EINVAL, "Cannot amend the backing file");
  }
  return {};
}

}  // namespace

std::span<const block::CreateOptionInfo> amend_option_table() { return kAmendOptions; }

struct Qcow2Driver::Amendment {
  uint32_t version = 3;
  uint32_t refcount_order = 4;
  bool lazy_refcounts = false;
  std::string data_file;
  bool data_file_raw = false;
};

Result<Qcow2Driver::Amendment> Qcow2Driver::plan_amendment(
    const block::CreateOptions& options) const {
  const Header& header = image_.header();
  Amendment plan{
      .version = header.version,
      .refcount_order = header.refcount_order,
      .lazy_refcounts = header.lazy_refcounts(),
      .data_file = options.string("data_file").value_or(header.data_file()),
      .data_file_raw = image_.data_is_raw() && options.boolean("data_file_raw").value_or(true)};
  if (const auto compat = options.string("compat")) {
    const Result<uint32_t> version = version_of(*compat);
    if (!version) {
      return std::unexpected(version.error());
    }
    plan.version = *version;
  }
  if (auto files = check_amended_files(options, header); !files) {
    return std::unexpected(files.error());
  }
  if (const auto bits = options.number("refcount_bits")) {
    if (!std::has_single_bit(*bits) || *bits > 64) {
      return fail(EINVAL, "Refcount width must be a power of two and may not exceed 64 bits");
    }
    plan.refcount_order = static_cast<uint32_t>(std::countr_zero(*bits));
    if (plan.version < 3 && *bits != 16) {
      return fail(EINVAL,
                  "Refcount widths other than 16 bits require compatibility level 1.1 or above "
                  "(use compat=1.1 or greater)");
    }
  }
  if (const auto lazy = options.boolean("lazy_refcounts")) {
    plan.lazy_refcounts = *lazy;
    if (*lazy && plan.version < 3) {
      return fail(EINVAL,
                  "Lazy refcounts only supported with compatibility level 1.1 and above (use "
                  "compat=1.1 or greater)");
    }
  }
  if (plan.version < 3 && plan.refcount_order != kV2RefcountOrder) {
    return fail(ENOTSUP, "compat=0.10 requires refcount_bits=16");
  }
  return plan;
}

io::Task<Result<void>> Qcow2Driver::amend(block::CreateOptions options) {
  if (amends_encryption(options) && encryption_ == nullptr) {
    co_return fail(ENOTSUP, "Can't amend encryption options - encryption not present");
  }
  const Result<Amendment> plan = plan_amendment(options);
  if (!plan) {
    co_return std::unexpected(plan.error());
  }
  const bool downgrade = plan->version < image_.header().version;
  Result<void> result;
  if (amends_encryption(options)) {
    result = co_await encryption_->amend(options);
  }
  if (result) {
    result = co_await prepare_write();
  }
  if (result) {
    result = co_await settle_counts();
  }
  if (result && downgrade) {
    result = co_await check_downgrade();
  }
  if (result && downgrade) {
    result = co_await bitmaps_.remove_all();
  }
  if (result && plan->version > image_.header().version) {
    result = co_await change_version(plan->version);
  }
  if (result && plan->lazy_refcounts != image_.header().lazy_refcounts()) {
    std::function<void(Header&)> change = [](Header& header) {
      header.compatible_features ^= kCompatibleLazyRefcounts;
    };
    result = co_await image_.update_header(std::move(change));
  }
  if (result && image_.geometry().external_data) {
    result = co_await change_data_file(*plan);
  }
  if (result && downgrade) {
    result = co_await expand_zero_clusters();
  }
  if (result && plan->refcount_order != image_.header().refcount_order) {
    // Nothing can be stored afterwards.
    result = co_await bitmaps_.store();
    if (result) {
      result = co_await settle_counts();
    }
    if (result) {
      result = co_await change_refcount_order(plan->refcount_order);
    }
  }
  if (result && downgrade) {
    result = co_await change_version(plan->version);
  }
  co_return result;
}

// As settle(), and the header says that no count is missing.
io::Task<Result<void>> Qcow2Driver::settle_counts() {
  Result<void> result = co_await settle();
  if (result) {
    result = co_await writeback_.end_postponing();
  }
  co_return result;
}

// Another name, and whether it is a raw image. Until it is closed, the image stays with the file
// that it was opened with.
io::Task<Result<void>> Qcow2Driver::change_data_file(const Amendment& plan) {
  Result<void> result;
  if (plan.data_file != image_.header().data_file()) {
    std::function<void(Header&)> rename = [&plan](Header& header) {
      header.set_string_extension(ExtensionType::kDataFile, plan.data_file);
    };
    result = co_await image_.replace_header(std::move(rename));
  }
  if (result && plan.data_file_raw != image_.data_is_raw()) {
    std::function<void(Header&)> change = [](Header& header) {
      header.autoclear_features ^= kAutoclearDataFileRaw;
    };
    result = co_await image_.update_header(std::move(change));
  }
  co_return result;
}

io::Task<Result<void>> Qcow2Driver::change_version(uint32_t version) {
  std::function<void(Header&)> change = [version](Header& header) {
    header.version = version;
    if (version < 3) {
      header.incompatible_features = 0;
      header.compatible_features = 0;
      header.autoclear_features = 0;
      header.compression = CompressionType::kDeflate;
      header.unknown_fields.clear();
      std::erase_if(header.extensions, [](const HeaderExtension& extension) {
        return extension.type == static_cast<uint32_t>(ExtensionType::kFeatureNames) ||
               extension.type == static_cast<uint32_t>(ExtensionType::kBitmaps);
      });
      return;
    }
    header.has_compression_field = true;
    header.extensions.push_back(feature_name_extension());
    if (extensions_end(header) + header.backing_file.size() > header.geometry().cluster_size()) {
      header.extensions.pop_back();  // they are for people, and small clusters have no room
    }
  };
  co_return co_await image_.replace_header(std::move(change));
}

// Another width takes other blocks and another table. They are written behind the end of the file.
io::Task<Result<void>> Qcow2Driver::change_refcount_order(uint32_t order) {
  const Geometry& geometry = image_.geometry();
  const uint64_t per_block = geometry.refcount_block_entries();
  const uint64_t most = order == 6 ? UINT64_MAX : (uint64_t{1} << (1u << order)) - 1;
  ReferenceCounts all;
  ReferenceCounts structure;
  uint64_t end = 0;
  for (uint64_t block = 0; block < refcounts_.table().size(); ++block) {
    if (refcounts_.table()[block] == 0) {
      continue;
    }
    static_cast<void>(structure.add(refcounts_.table()[block] >> geometry.cluster_bits));
    for (uint64_t cluster = block * per_block; cluster < (block + 1) * per_block; ++cluster) {
      const Result<uint64_t> count = co_await refcounts_.get(cluster);
      if (!count) {
        co_return std::unexpected(count.error());
      }
      if (*count > most) {
        co_return fail(EINVAL,
                       "Cannot decrease refcount entry width to {} bits: Cluster at offset {} has "
                       "a refcount of {}",
                       1u << order, c_hex(cluster << geometry.cluster_bits), *count);
      }
      for (uint64_t i = 0; i < *count; ++i) {
        if (all.add(cluster) == 0) {
          co_return fail(ENOMEM, "The image is too large to count its references anew");
        }
      }
      end = *count != 0 ? cluster + 1 : end;
    }
  }
  for (uint64_t at = 0; at < refcounts_.table_length(); at += geometry.cluster_size()) {
    static_cast<void>(structure.add((refcounts_.table_offset() + at) >> geometry.cluster_bits));
  }
  if (end << geometry.cluster_bits > image_.file().length()) {
    Result<void> grown = co_await image_.file().resize(end << geometry.cluster_bits, {});
    if (!grown) {
      co_return grown;
    }
  }
  const std::map<uint64_t, uint64_t> beyond;
  RefcountRebuild rebuild(image_, {all, structure, beyond}, order);
  Result<void> built = co_await rebuild.run();
  // The counts in memory are of the old width.
  image_.retire();
  co_return built;
}

}  // namespace cairn::qcow2
