#include "exports/ublk/ublk_export.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <variant>

#include <fmt/format.h>

#include "schema/types_block_export.h"

namespace cairn::ublk {
namespace {

constexpr uint64_t kSmallestBlock = 512;
constexpr uint64_t kLargestBlock = 4096;  // the kernel has no larger ones than its pages
constexpr uint16_t kUsualDepth = 64;
constexpr unsigned kMostInFlight = 4096;  // of all queues

Result<DeviceSettings> device_settings(const schema::BlockExportOptionsUblk& options,
                                       const exports::ExportSettings& settings) {
  const uint64_t block = options.logical_block_size.value_or(kSmallestBlock);
  if (block < kSmallestBlock || block > kLargestBlock || !std::has_single_bit(block)) {
    return fail(EINVAL, "Parameter 'logical-block-size' must be a power of 2 between {} and {}",
                kSmallestBlock, kLargestBlock);
  }
  const uint16_t queues = options.num_queues.value_or(1);
  const uint16_t depth = options.queue_depth.value_or(kUsualDepth);
  if (queues == 0 || depth == 0 || unsigned{queues} * depth > kMostInFlight) {
    return fail(EINVAL,
                "Parameters 'num-queues' and 'queue-depth' must be greater than 0, and at most {} "
                "together",
                kMostInFlight);
  }
  return DeviceSettings{.number = options.device_id,
                        .queues = queues,
                        .queue_depth = depth,
                        .block_size = static_cast<uint32_t>(block),
                        .writable = settings.writable,
                        .writethrough = settings.writethrough,
                        .recoverable = options.recoverable.value_or(false)};
}

}  // namespace

UblkExport::UblkExport(exports::ExportSettings settings, std::unique_ptr<block::Edge> root,
                       std::unique_ptr<ServedDevice> device)
    : Export("ublk", std::move(settings), std::move(root)),
      device_(std::move(device)),
      graph_(node().graph()),
      length_(this->root().length()) {
  graph_.add_length_listener(*this);
}

UblkExport::~UblkExport() { graph_.remove_length_listener(*this); }

void UblkExport::on_length_change() {
  const uint64_t length = root().length();
  if (length != std::exchange(length_, length) && telling_.running() == 0) {
    telling_.spawn(tell_length());
  }
}

// Until nothing has changed meanwhile: commands that are under way together may overtake each
// other.
io::Task<void> UblkExport::tell_length() {
  for (uint64_t told = length_ + 1; told != length_;) {
    told = length_;
    const Result<void> done = co_await device_->set_length(told);
    if (!done) {
      graph_.report_failure(fmt::format("Export '{}': the block device keeps its length: {}", id(),
                                        done.error().message()));
    }
  }
}

io::Task<void> UblkExport::close() {
  graph_.remove_length_listener(*this);
  co_await telling_.join();
  co_await device_->stop();
}

io::Task<Result<std::unique_ptr<exports::Export>>> UblkExports::create(
    const schema::BlockExportOptions& options, const exports::ExportSettings& settings,
    std::unique_ptr<block::Edge>& root) {
  const auto& own = std::get<schema::BlockExportOptionsUblk>(options.branch);
  const Result<DeviceSettings> wanted = device_settings(own, settings);
  if (!wanted) {
    co_return std::unexpected(wanted.error());
  }
  auto driver = co_await open_driver_();
  if (!driver) {
    co_return pass(driver);
  }
  auto device = co_await ServedDevice::start(std::move(*driver), *wanted, *root, settings.thread);
  if (!device) {
    co_return pass(device);
  }
  co_return std::make_unique<UblkExport>(settings, std::move(root), std::move(*device));
}

}  // namespace cairn::ublk
