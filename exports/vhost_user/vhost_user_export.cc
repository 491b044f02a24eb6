#include "exports/vhost_user/vhost_user_export.h"

#include <bit>
#include <cerrno>
#include <chrono>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "chardev/address.h"
#include "io/timer.h"
#include "schema/types_block_export.h"

namespace cairn::vhost_user {
namespace {

// How long accepting pauses when there is no descriptor left.
constexpr io::Duration kAcceptPause = std::chrono::milliseconds(100);
constexpr uint64_t kSmallestBlock = 512;
constexpr uint64_t kLargestBlock = 2 * 1024 * 1024;

Result<DeviceSettings> device_settings(const schema::BlockExportOptionsVhostUserBlk& options,
                                       const exports::ExportSettings& settings) {
  const uint64_t block = options.logical_block_size.value_or(0);
  if (block != 0 &&
      (block < kSmallestBlock || block > kLargestBlock || !std::has_single_bit(block))) {
    return fail(EINVAL, "parameter logical-block-size must be a power of 2 between {} and {}",
                kSmallestBlock, kLargestBlock);
  }
  const uint16_t queues = options.num_queues.value_or(1);
  if (queues == 0) {
    return fail(EINVAL, "num-queues must be greater than 0");
  }
  return DeviceSettings{.writable = settings.writable,
                        .writethrough = settings.writethrough,
                        .block_size = static_cast<uint32_t>(block == 0 ? kSmallestBlock : block),
                        .queues = queues,
                        .thread = settings.thread.get()};
}

}  // namespace

VhostUserExport::VhostUserExport(exports::ExportSettings settings,
                                 std::unique_ptr<block::Edge> root, io::Listener listener,
                                 DeviceSettings device)
    : Export("vhost-user-blk", std::move(settings), std::move(root)),
      listener_(std::move(listener)),
      device_(this->root(), device),
      told_capacity_(device_.capacity()),
      graph_(node().graph()) {
  graph_.add_length_listener(*this);
  tasks_.spawn(serve());
}

VhostUserExport::~VhostUserExport() { graph_.remove_length_listener(*this); }

io::Task<void> VhostUserExport::serve() {
  while (!stopping_.cancelled()) {
    Result<io::Stream> stream = co_await listener_.accept(stopping_.token());
    if (!stream) {
      if (!stopping_.cancelled()) {
        (void)co_await io::sleep_for(kAcceptPause, stopping_.token());
      }
      continue;
    }
    session_ = std::make_unique<Session>(std::move(*stream), device_);
    auto serving = session_->run();
    const Result<void> ended = co_await std::move(serving);
    session_.reset();
    if (!ended) {
      graph_.report_failure(fmt::format("Export '{}': the client was disconnected: {}", id(),
                                        ended.error().message()));
    }
  }
}

io::Task<void> VhostUserExport::close() {
  stopping_.cancel();
  if (session_ != nullptr) {
    session_->stop();
  }
  co_await tasks_.join();
  listener_.close();
  graph_.remove_length_listener(*this);
}

void VhostUserExport::on_length_change() {
  const uint64_t capacity = device_.capacity();
  if (capacity != std::exchange(told_capacity_, capacity) && session_ != nullptr) {
    session_->announce_config_change();
  }
}

io::Task<Result<std::unique_ptr<exports::Export>>> VhostUserExports::create(
    const schema::BlockExportOptions& options, const exports::ExportSettings& settings,
    std::unique_ptr<block::Edge>& root) {
  const auto& own = std::get<schema::BlockExportOptionsVhostUserBlk>(options.branch);
  auto device = device_settings(own, settings);
  if (!device) {
    co_return pass(device);
  }
  if (own.addr.type != schema::SocketAddressType::kUnix &&
      own.addr.type != schema::SocketAddressType::kFd) {
    co_return fail(EINVAL, "Only socket address types 'unix' and 'fd' are supported");
  }
  auto address = chardev::to_io(own.addr);
  if (!address) {
    co_return pass(address);
  }
  auto listening = io::Listener::listen(std::move(*address));
  auto listeners = co_await std::move(listening);
  if (!listeners) {
    co_return pass(listeners);
  }
  std::unique_ptr<exports::Export> made = std::make_unique<VhostUserExport>(
      settings, std::move(root), std::move(listeners->front()), *device);
  co_return made;
}

}  // namespace cairn::vhost_user
