#include "formats/qcow2/driver.h"

#include <algorithm>
#include <cstdio>
#include <utility>
#include <variant>

#include "base/bytes.h"
#include "block/graph.h"
#include "block/node.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/create.h"
#include "schema/types_block_options.h"

namespace cairn::qcow2 {

namespace {

// The most that L2 tables are cached by default; less for disks whose tables take less.
constexpr uint64_t kDefaultL2Cache = 32 << 20;
constexpr uint64_t kDefaultRefcountCache = 256 << 10;

Result<uint64_t> size_option(const std::optional<int64_t>& value, uint64_t fallback) {
  if (!value) {
    return fallback;
  }
  if (*value < 0) {
    return fail(EINVAL, "A cache size must not be negative");
  }
  return static_cast<uint64_t>(*value);
}

Result<CacheSizes> cache_sizes(const schema::BlockdevOptionsQcow2& options, const Header& header) {
  const Geometry geometry = header.geometry();
  const uint64_t needed = div_round_up(header.size, geometry.cluster_size()) * kL2EntryBytes;
  const uint64_t refcount_default = std::max(4 * geometry.cluster_size(), kDefaultRefcountCache);
  const auto total = size_option(options.cache_size, 0);
  const auto l2 = size_option(options.l2_cache_size, std::min(needed, kDefaultL2Cache));
  const auto refcount = size_option(options.refcount_cache_size, refcount_default);
  if (!total || !l2 || !refcount) {
    return fail(EINVAL, "A cache size must not be negative");
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
  return sizes;
}

Result<void> check_options(const schema::BlockdevOptionsQcow2& options, const Header& header) {
  if (options.l2_cache_entry_size) {
    const int64_t size = *options.l2_cache_entry_size;
    const auto cluster_size = static_cast<int64_t>(header.geometry().cluster_size());
    const bool power_of_two = size > 0 && (size & (size - 1)) == 0;
    if (!power_of_two || size < PageCache::kSector || size > cluster_size) {
      return fail(EINVAL,
                  "L2 cache entry size must be a power of two between {} and the cluster size ({})",
                  uint32_t{PageCache::kSector}, cluster_size);
    }
  }
  if (options.lazy_refcounts.value_or(false) && header.version < 3) {
    return fail(EINVAL,
                "Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level");
  }
  return {};
}

Result<void> check_state(const Header& header, const block::OpenContext& context) {
  if (auto supported = check_supported(header); !supported) {
    return supported;
  }
  if (!context.writable() || context.flags().check_only) {
    return {};
  }
  if (header.has(kIncompatibleCorrupt)) {
    return fail(EACCES, "qcow2: Image is corrupt; cannot be opened read/write");
  }
  return {};
}

// The reference counts of an image with the dirty bit may be too low, so it takes no writes before
// they are right (section "Header", incompatible_features).
io::Task<Result<void>> repair_dirty(block::Edge& file, block::Node& node, Header& header) {
  Image image(file, node, header, true);
  block::CheckOptions options{.fix_leaks = true, .fix_errors = true};
  options.report = [](const std::string& line) { fmt::print(stderr, "{}\n", line); };
  options.complain = [](const Error& error) { fmt::print(stderr, "{}\n", error.message()); };
  Checker checker(image, std::move(options));
  Result<block::CheckResult> checked = co_await checker.run();
  if (!checked) {
    co_return pass(checked, "Could not repair dirty image: ");
  }
  if (image.header().has(kIncompatibleDirty)) {
    co_return fail(EIO, "Could not repair dirty image: Input/output error");
  }
  header = image.header();
  co_return Result<void>{};
}

io::Task<Result<void>> open_backing(block::OpenContext& context,
                                    const schema::BlockdevOptionsQcow2& options,
                                    const Header& header) {
  Result<block::Edge*> edge = nullptr;
  if (options.backing) {
    schema::BlockdevRef ref;
    if (const auto* name = std::get_if<std::string>(&options.backing->value); name != nullptr) {
      ref.value = *name;
    } else if (const auto* inner =
                   std::get_if<schema::Box<schema::BlockdevOptions>>(&options.backing->value);
               inner != nullptr) {
      ref.value = *inner;
    } else {
      co_return Result<void>{};  // null: no backing image, whatever the header says
    }
    edge = co_await context.open_child("backing", ref, block::ChildRole::kBacking);
  } else if (!header.backing_file.empty()) {
    edge = co_await context.open_implicit_backing(header.backing_file, header.backing_format());
  }
  if (!edge) {
    co_return pass(edge);
  }
  co_return Result<void>{};
}

io::Task<Result<std::unique_ptr<block::Driver>>> open_image(
    block::OpenContext& context, const schema::BlockdevOptions& all_options) {
  const auto& options = std::get<schema::BlockdevOptionsQcow2>(all_options.branch);
  Result<block::Edge*> file =
      co_await context.open_child("file", options.file, block::ChildRole::kImage);
  if (!file) {
    co_return pass(file);
  }
  auto purpose = OpenedFor::kUse;
  if (context.flags().check_only) {
    purpose = context.writable() ? OpenedFor::kRepair : OpenedFor::kCheck;
  }
  Result<Header> header = co_await read_header(**file, purpose);
  if (!header) {
    co_return pass(header);
  }
  if (auto state = check_state(*header, context); !state) {
    co_return pass(state);
  }
  if (auto sane = check_options(options, *header); !sane) {
    co_return pass(sane);
  }
  const auto caches = cache_sizes(options, *header);
  if (!caches) {
    co_return std::unexpected(caches.error());
  }
  block::Node& node = context.node();
  if (context.writable() && !context.flags().check_only && header->has(kIncompatibleDirty)) {
    Result<void> repaired = co_await repair_dirty(**file, node, *header);
    if (!repaired) {
      co_return pass(repaired);
    }
  }
  auto driver = std::make_unique<Qcow2Driver>(**file, node, *header, context.writable(), *caches);
  driver->reclaim().set_policy(
      {.request = options.pass_discard_request.value_or(node.options().discard_unmap),
       .snapshot = options.pass_discard_snapshot.value_or(true),
       .other = options.pass_discard_other.value_or(false)});
  driver->set_discard_no_unref(options.discard_no_unref.value_or(false));
  Result<void> loaded = co_await driver->load(context.flags().check_only);
  if (!loaded) {
    co_return pass(loaded);
  }
  Result<void> backing = co_await open_backing(context, options, *header);
  if (!backing) {
    co_return pass(backing);
  }
  co_return driver;
}

int probe(std::span<const std::byte> head, std::string_view /*filename*/) {
  if (head.size() < 8 || load_be<uint32_t>(head.data()) != kMagic) {
    return 0;
  }
  // Version 1 is another format.
  return load_be<uint32_t>(head.data() + 4) >= 2 ? 100 : 0;
}

}  // namespace

const block::DriverInfo kQcow2Driver{
    .name = "qcow2",
    .kind = block::DriverInfo::Kind::kFormat,
    .open = open_image,
    .probe = probe,
    .create_options = create_option_table(),
    .create = create_image,
    .supports_backing = true,
};

Qcow2Driver::Qcow2Driver(block::Edge& file, block::Node& node, Header header, bool writable,
                         const CacheSizes& caches)
    : image_(file, node, std::move(header), writable),
      refcounts_(image_, writeout_, caches.refcount),
      reclaim_(image_, refcounts_),
      mapping_(image_, refcounts_, reclaim_, writeout_, caches.l2),
      writeback_(image_, refcounts_, reclaim_, mapping_, writeout_),
      snapshots_(image_, refcounts_, reclaim_, mapping_, writeback_, writeout_) {}

io::Task<Result<void>> Qcow2Driver::load(bool check_only) {
  const Header& header = image_.header();
  const OverlapChecks& checks = image_.overlap_checks();
  image_.set_describer([this](uint64_t host_offset) { return describe(host_offset); });
  if (checks.main_header) {
    image_.metadata().add(0, image_.cluster_size());
  }
  if (checks.active_l1) {
    image_.metadata().add(header.l1_table_offset, header.l1_size * kL1EntryBytes);
  }
  if (checks.refcount_table) {
    image_.metadata().add(header.refcount_table_offset,
                          header.refcount_table_clusters * image_.cluster_size());
  }
  Result<void> result = co_await mapping_.load();
  if (result && image_.open_for_writing()) {
    result = co_await refcounts_.load();
  }
  if (result) {
    result = co_await snapshots_.load();
    if (image_.open_for_writing()) {
      snapshots_.protect();
    }
    if (check_only) {
      result = {};
    }
  }
  co_return result;
}

bool Qcow2Driver::hides_backing() const { return node_->backing() != nullptr; }

// What metadata lies in the cluster of `host_offset`, as messages name it.
std::string Qcow2Driver::describe(uint64_t host_offset) const {
  const uint64_t cluster = align_down(host_offset, image_.cluster_size());
  const auto in = [&](uint64_t offset, uint64_t length) {
    return length != 0 && cluster >= align_down(offset, image_.cluster_size()) &&
           cluster < offset + length;
  };
  if (cluster == 0) {
    return "qcow2_header";
  }
  if (in(mapping_.l1_offset(), mapping_.l1().size() * kL1EntryBytes)) {
    return "active L1 table";
  }
  const auto& l1 = mapping_.l1();
  if (std::any_of(l1.begin(), l1.end(),
                  [&](uint64_t e) { return (e & kEntryOffsetMask) == cluster; })) {
    return "active L2 table";
  }
  if (in(refcounts_.table_offset(), refcounts_.table_length())) {
    return "refcount table";
  }
  const auto& blocks = refcounts_.table();
  if (std::find(blocks.begin(), blocks.end(), cluster) != blocks.end()) {
    return "refcount block";
  }
  if (in(image_.header().snapshots_offset, snapshots_.table().length_on_disk())) {
    return "snapshot table";
  }
  return "inactive L1 table";
}

io::Task<Result<block::Extent>> Qcow2Driver::map(uint64_t offset, uint64_t length) {
  if (writeback_.pressed()) {
    // Reading does not depend on it.
    const Result<void> relieved = co_await writeback_.relieve();
    static_cast<void>(relieved);
  }
  co_return co_await mapping_.map(offset, length);
}

io::Task<Result<void>> Qcow2Driver::close() {
  Result<void> result;
  if (image_.open_for_writing()) {
    result = co_await settle();
  }
  // What a failed write-out left queued is lost as a leak.
  co_await reclaim_.join();
  co_return result;
}

}  // namespace cairn::qcow2
