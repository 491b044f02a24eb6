#include "formats/qcow2/open_options.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <limits>
#include <optional>
#include <string_view>
#include <variant>

#include "base/bytes.h"
#include "formats/qcow2/codec.h"
#include "formats/qcow2/page_cache.h"
#include "schema/types_block_options.h"

namespace cairn::qcow2 {

namespace {

// The most that L2 tables are cached by default; less for disks whose tables take less.
constexpr uint64_t kDefaultL2Cache = 32 << 20;
constexpr uint64_t kDefaultRefcountCache = 256 << 10;
constexpr int64_t kDefaultCleanSeconds = 600;

Result<uint64_t> size_option(std::string_view name, const std::optional<int64_t>& value,
                             uint64_t fallback) {
  if (value && *value < 0) {
    return fail(EINVAL, "Parameter '{}' expects a non-negative number below 2^64", name);
  }
  return value ? static_cast<uint64_t>(*value) : fallback;
}

Result<uint64_t> l2_entry_size(const std::optional<int64_t>& value, uint64_t cluster_size) {
  if (!value) {
    return std::min<uint64_t>(cluster_size, PageCache::kDefaultPage);
  }
  const auto size = static_cast<uint64_t>(*value);
  const bool power_of_two = *value > 0 && (size & (size - 1)) == 0;
  if (!power_of_two || size < PageCache::kSector || size > cluster_size) {
    return fail(EINVAL,
                "L2 cache entry size must be a power of two between {} and the cluster size ({})",
                uint32_t{PageCache::kSector}, cluster_size);
  }
  return size;
}

Result<CacheSizes> cache_sizes(const schema::BlockdevOptionsQcow2& options, const Header& header) {
  const Geometry geometry = header.geometry();
  const uint64_t needed =
      div_round_up(header.size, geometry.cluster_size()) * geometry.l2_entry_bytes;
  const uint64_t refcount_default = std::max(4 * geometry.cluster_size(), kDefaultRefcountCache);
  const auto total = size_option("cache-size", options.cache_size, 0);
  const auto l2 =
      size_option("l2-cache-size", options.l2_cache_size, std::min(needed, kDefaultL2Cache));
  const auto refcount =
      size_option("refcount-cache-size", options.refcount_cache_size, refcount_default);
  for (const auto* size : {&total, &l2, &refcount}) {
    if (!*size) {
      return std::unexpected(size->error());
    }
  }
  CacheSizes sizes{.l2 = *l2, .refcount = *refcount};
  if (options.cache_size) {
    if (options.l2_cache_size && options.refcount_cache_size) {
      return fail(EINVAL,
                  "cache-size, l2-cache-size and refcount-cache-size may not be set at the same "
                  "time");
    }
    if (options.l2_cache_size && *l2 > *total) {
      return fail(EINVAL, "l2-cache-size may not exceed cache-size");
    }
    if (options.refcount_cache_size && *refcount > *total) {
      return fail(EINVAL, "refcount-cache-size may not exceed cache-size");
    }
    // What one of the two is not given is the other's; by default the refcounts get little.
    if (options.l2_cache_size) {
      sizes.refcount = *total - *l2;
    } else {
      sizes.refcount = std::min(*refcount, *total);
      sizes.l2 = *total - sizes.refcount;
    }
  }
  const auto entry = l2_entry_size(options.l2_cache_entry_size, geometry.cluster_size());
  if (!entry) {
    return std::unexpected(entry.error());
  }
  sizes.l2_entry = *entry;
  // The field counts them in whole tables and can not count further. L2 tables are kept in mind
  // only as far as there are any.
  if (std::min(sizes.l2, needed) / *entry > static_cast<uint64_t>(INT_MAX)) {
    return fail(EINVAL, "L2 cache size too big");
  }
  if (sizes.refcount / geometry.cluster_size() > static_cast<uint64_t>(INT_MAX)) {
    return fail(EINVAL, "Refcount cache size too big");
  }
  return sizes;
}

OverlapChecks template_checks(schema::Qcow2OverlapCheckMode mode) {
  using enum schema::Qcow2OverlapCheckMode;
  const bool constant = mode != kNone;
  const bool cached = mode == kCached || mode == kAll;
  return {.main_header = constant,
          .active_l1 = constant,
          .active_l2 = cached,
          .refcount_table = constant,
          .refcount_block = cached,
          .snapshot_table = constant,
          .inactive_l1 = cached,
          .inactive_l2 = mode == kAll,
          .bitmap_directory = constant};
}

OverlapChecks overlap_checks(const std::optional<schema::Qcow2OverlapChecks>& option) {
  if (!option) {
    return {};
  }
  if (const auto* mode = std::get_if<schema::Qcow2OverlapCheckMode>(&option->value)) {
    return template_checks(*mode);
  }
  const auto& flags = std::get<schema::Qcow2OverlapCheckFlags>(option->value);
  OverlapChecks checks =
      template_checks(flags.template_.value_or(schema::Qcow2OverlapCheckMode::kCached));
  const auto set = [](bool& check, const std::optional<bool>& flag) {
    check = flag.value_or(check);
  };
  set(checks.main_header, flags.main_header);
  set(checks.active_l1, flags.active_l1);
  set(checks.active_l2, flags.active_l2);
  set(checks.refcount_table, flags.refcount_table);
  set(checks.refcount_block, flags.refcount_block);
  set(checks.snapshot_table, flags.snapshot_table);
  set(checks.inactive_l1, flags.inactive_l1);
  set(checks.inactive_l2, flags.inactive_l2);
  set(checks.bitmap_directory, flags.bitmap_directory);
  return checks;
}

}  // namespace

Result<OpenOptions> parse_open_options(const schema::BlockdevOptionsQcow2& options,
                                       const Header& header, bool discard_unmap) {
  const auto caches = cache_sizes(options, header);
  if (!caches) {
    return std::unexpected(caches.error());
  }
  const int64_t interval = options.cache_clean_interval.value_or(kDefaultCleanSeconds);
  if (interval < 0 || interval > std::numeric_limits<uint32_t>::max()) {
    return fail(EINVAL, "Cache clean interval too big");
  }
  if (options.lazy_refcounts.value_or(false) && header.version < 3) {
    return fail(EINVAL,
                "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level");
  }
  if (options.discard_no_unref.value_or(false) && header.version < 3) {
    return fail(EINVAL, "discard-no-unref is only supported since qcow2 version 3");
  }
  const int64_t level = options.compression_level.value_or(0);
  if (options.compression_level && (level < 1 || level > most_level(header.compression))) {
    return fail(EINVAL, "compression-level must be between 1 and {} for this image",
                most_level(header.compression));
  }
  return OpenOptions{
      .caches = *caches,
      .overlap_checks = overlap_checks(options.overlap_check),
      .pass_discard = {.request = options.pass_discard_request.value_or(discard_unmap),
                       .snapshot = options.pass_discard_snapshot.value_or(true),
                       .other = options.pass_discard_other.value_or(false)},
      .discard_no_unref = options.discard_no_unref.value_or(false),
      .lazy_refcounts = options.lazy_refcounts.value_or(header.lazy_refcounts()),
      .cache_clean_seconds = static_cast<uint32_t>(interval),
      .compression_level = static_cast<int>(level)};
}

}  // namespace cairn::qcow2
