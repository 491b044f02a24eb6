#include "formats/qcow2/driver.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string_view>
#include <utility>
#include <variant>

#include "base/bytes.h"
#include "block/graph.h"
#include "block/node.h"
#include "block/open_backing.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/create.h"
#include "schema/types_block_options.h"

namespace cairn::qcow2 {

namespace {

Result<void> check_state(const Header& header, const block::OpenContext& context) {
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

// The external data file; null when there is none, or when nobody is going to ask for data.
io::Task<Result<block::Edge*>> open_data_file(block::OpenContext& context,
                                              const schema::BlockdevOptionsQcow2& options,
                                              const Header& header) {
  const bool external = header.has(kIncompatibleDataFile);
  if (context.flags().no_io || (!external && !options.data_file)) {
    co_return nullptr;
  }
  if (options.data_file) {
    auto data =
        co_await context.open_child("data-file", *options.data_file, block::ChildRole::kData);
    if (data && !external) {
      co_return fail(EINVAL, "'data-file' can only be set for images with an external data file");
    }
    co_return data;
  }
  if (header.data_file().empty()) {
    co_return fail(EINVAL, "'data-file' is required for this image");
  }
  co_return co_await context.open_implicit_data(header.data_file());
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
  block::Node& node = context.node();
  const auto settings = parse_open_options(options, *header, node.options().discard_unmap);
  if (!settings) {
    co_return std::unexpected(settings.error());
  }
  auto encryption = co_await Encryption::open(context, options, *header, **file);
  if (!encryption) {
    co_return pass(encryption);
  }
  const Result<block::Edge*> data = co_await open_data_file(context, options, *header);
  if (!data) {
    co_return std::unexpected(data.error());
  }
  if (context.writable() && !context.flags().check_only && header->has(kIncompatibleDirty)) {
    Result<void> repaired = co_await repair_dirty(**file, node, *header);
    if (!repaired) {
      co_return pass(repaired);
    }
  }
  auto driver =
      std::make_unique<Qcow2Driver>(**file, *data, node, *header, context.writable(), *settings);
  driver->set_encryption(std::move(*encryption));
  Result<void> loaded = co_await driver->load(context.flags().check_only);
  if (!loaded) {
    co_return pass(loaded);
  }
  if (node.active()) {
    const bool bits_wanted = !context.flags().no_io && !context.flags().check_only;
    loaded = co_await driver->bitmaps().load(bits_wanted);
    if (!loaded) {
      co_return pass(loaded);
    }
  }
  std::string format(header->backing_format());
  const Result<block::Edge*> backing = co_await block::open_backing(
      context, options.backing, header->backing_file, std::move(format));
  if (!backing) {
    co_return std::unexpected(backing.error());
  }
  driver->cache_cleaner().start(std::chrono::seconds(settings->cache_clean_seconds));
  co_return driver;
}

int probe(std::span<const std::byte> head, std::string_view /*filename*/) {
  if (head.size() < 8 || load_be<uint32_t>(head.data()) != kMagic) {
    return 0;
  }
  // Version 1 is another format.
  return load_be<uint32_t>(head.data() + 4) >= 2 ? 100 : 0;
}

constexpr std::string_view kReopenOptions[] = {
    "lazy-refcounts",      "pass-discard-request", "pass-discard-snapshot",
    "pass-discard-other",  "discard-no-unref",     "overlap-check",
    "cache-size",          "l2-cache-size",        "l2-cache-entry-size",
    "refcount-cache-size", "cache-clean-interval"};

}  // namespace

const block::DriverInfo kQcow2Driver{
    .name = "qcow2",
    .kind = block::DriverInfo::Kind::kFormat,
    .open = open_image,
    .probe = probe,
    .create_options = create_option_table(),
    .create = create_image,
    .create_on = create_image_on,
    .measure = measure_image,
    .supports_backing = true,
    .amend_options = amend_option_table(),
    .reopen_options = kReopenOptions,
};

Qcow2Driver::Qcow2Driver(block::Edge& file, block::Edge* data, block::Node& node, Header header,
                         bool writable, const OpenOptions& options)
    : image_(file, node, std::move(header), writable, options.overlap_checks, data),
      refcounts_(image_, writeout_, options.caches.refcount),
      reclaim_(image_, refcounts_),
      mapping_(image_, refcounts_, reclaim_, writeout_, options.caches.l2, options.caches.l2_entry),
      writeback_(image_, refcounts_, reclaim_, mapping_, writeout_, options.lazy_refcounts),
      snapshots_(image_, refcounts_, reclaim_, mapping_, writeback_, writeout_),
      bitmaps_(image_, refcounts_, reclaim_, writeback_),
      cache_cleaner_(mapping_, refcounts_),
      discard_no_unref_(options.discard_no_unref),
      compression_level_(options.compression_level) {
  reclaim_.set_policy(options.pass_discard);
  if (image_.geometry().external_data) {
    image_.keep_autoclear(kAutoclearDataFileRaw);
  }
}

block::Permissions Qcow2Driver::child_permissions(block::ChildRole role, block::Permissions parents,
                                                  bool writable) const {
  using P = block::PermissionSet;
  if (role != block::ChildRole::kData) {
    return Driver::child_permissions(role, parents, writable);
  }
  // It is as long as the disk, and written to when the disk is.
  P used = parents.used | P::kConsistentRead;
  if (writable) {
    used |= P::kWrite | P::kResize;
  }
  return {.used = used, .shared = parents.shared.without(P::kResize)};
}

io::Task<Result<void>> Qcow2Driver::load(bool check_only) {
  image_.set_describer([this](uint64_t host_offset, MetadataKind writing) {
    return describe(host_offset, writing);
  });
  protect_header();
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
    } else if (result && image_.open_for_writing()) {
      result = co_await protect_inactive_l2();
    }
  }
  co_return result;
}

void Qcow2Driver::set_encryption(std::unique_ptr<Encryption> encryption) {
  encryption_ = std::move(encryption);
  sectors_ = encryption_ != nullptr ? encryption_->codec() : nullptr;
}

bool Qcow2Driver::hides_backing() const { return node_->backing() != nullptr; }

io::Task<Result<block::Extent>> Qcow2Driver::map(uint64_t offset, uint64_t length) {
  if (writeback_.pressed()) {
    // Reading does not depend on it.
    const Result<void> relieved = co_await writeback_.relieve();
    static_cast<void>(relieved);
  }
  Result<block::Extent> extent = co_await mapping_.map(offset, length);
  if (extent && extent->codec == nullptr) {
    extent->sectors = sectors_;
  }
  co_return extent;
}

io::Task<Result<void>> Qcow2Driver::close() {
  retire();
  Result<void> result = co_await quiesce();
  if (!result && image_.open_for_writing() && !image_.broken()) {
    const int code = result.error().code();
    node_->graph().report_failure(
        Error::from_errno(code, "Failed to flush the L2 table cache").message());
    co_return fail_errno(code, "Failed to flush the refcount block cache");
  }
  co_return result;
}

io::Task<Result<void>> Qcow2Driver::quiesce() {
  Result<void> result;
  if (image_.open_for_writing()) {
    Result<void> stored = co_await bitmaps_.store();
    result = co_await settle();
    if (result) {
      result = std::move(stored);
    }
  }
  if (result && !image_.broken()) {
    result = co_await writeback_.end_postponing();
  }
  // What a failed write-out left queued is lost as a leak.
  co_await reclaim_.join();
  co_return result;
}

}  // namespace cairn::qcow2
