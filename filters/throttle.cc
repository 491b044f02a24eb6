// A request waits here, on the way down, until the limits of the group let it through. Zeroing and
// discarding count as writes; flushes do not count.
//
// While its group limits nothing, and while the graph is drained, a request costs no coroutine.
#include "filters/throttle.h"

#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "filters/filter_driver.h"
#include "io/throttle.h"
#include "schema/types_block_options.h"

namespace cairn::filters {

namespace {

using io::Direction;

Result<std::shared_ptr<io::Throttle>> find_group(const block::Graph& graph,
                                                 const schema::BlockdevOptions& options) {
  const auto& own = std::get<schema::BlockdevOptionsThrottle>(options.branch);
  std::shared_ptr<io::Throttle> group = graph.find_throttle(own.throttle_group);
  if (group == nullptr) {
    return fail(ENOENT, "Throttle group '{}' does not exist", own.throttle_group);
  }
  return group;
}

class ThrottleDriver final : public FilterDriver {
 public:
  ThrottleDriver(block::Edge& child, std::shared_ptr<io::Throttle> group)
      : FilterDriver(child), member_(std::move(group)) {}

  io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override {
    return passes(Direction::kRead, data.size()) ? FilterDriver::read(offset, std::move(data))
                                                 : read_later(offset, std::move(data));
  }
  io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                               block::WriteFlags flags) override {
    return passes(Direction::kWrite, data.size())
               ? FilterDriver::write(offset, std::move(data), flags)
               : write_later(offset, std::move(data), flags);
  }
  io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                      block::ZeroFlags flags) override {
    return passes(Direction::kWrite, length) ? FilterDriver::write_zeroes(offset, length, flags)
                                             : write_zeroes_later(offset, length, flags);
  }
  io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override {
    return passes(Direction::kWrite, length) ? FilterDriver::discard(offset, length)
                                             : discard_later(offset, length);
  }

  Result<bool> adopt_options(const block::NodeOptions& /*node*/,
                             const schema::BlockdevOptions& options) override {
    auto group = find_group(node_->graph(), options);
    if (!group) {
      return pass(group);
    }
    if (*group != member_.throttle()) {
      member_.join(std::move(*group));
    }
    return true;
  }

  void drain_begins() override { member_.release(); }

 private:
  [[nodiscard]] bool passes(Direction direction, uint64_t bytes) {
    if (!node_->graph().draining()) {
      return member_.admit(direction, bytes);
    }
    member_.let_through(direction, bytes);
    return true;
  }

  io::Task<Result<void>> read_later(uint64_t offset, io::IoVector data) {
    co_await member_.wait(Direction::kRead, data.size());
    co_return co_await FilterDriver::read(offset, std::move(data));
  }
  io::Task<Result<void>> write_later(uint64_t offset, io::IoVector data, block::WriteFlags flags) {
    co_await member_.wait(Direction::kWrite, data.size());
    co_return co_await FilterDriver::write(offset, std::move(data), flags);
  }
  io::Task<Result<void>> write_zeroes_later(uint64_t offset, uint64_t length,
                                            block::ZeroFlags flags) {
    co_await member_.wait(Direction::kWrite, length);
    co_return co_await FilterDriver::write_zeroes(offset, length, flags);
  }
  io::Task<Result<void>> discard_later(uint64_t offset, uint64_t length) {
    co_await member_.wait(Direction::kWrite, length);
    co_return co_await FilterDriver::discard(offset, length);
  }

  io::Throttle::Member member_;
};

// `options` lives until the graph has opened the node.
io::Task<Result<std::unique_ptr<block::Driver>>> open_throttle(
    block::OpenContext& context, const schema::BlockdevOptions& options) {
  const auto& own = std::get<schema::BlockdevOptionsThrottle>(options.branch);
  const Result<block::Edge*> file =
      co_await context.open_child("file", own.file, block::ChildRole::kFiltered);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  auto group = find_group(context.graph(), options);
  if (!group) {
    co_return pass(group);
  }
  co_return std::make_unique<ThrottleDriver>(**file, std::move(*group));
}

constexpr std::string_view kThrottleReopenOptions[] = {"throttle-group"};

}  // namespace

const block::DriverInfo kThrottleDriver = {
    .name = "throttle",
    .kind = block::DriverInfo::Kind::kFilter,
    .open = open_throttle,
    .reopen_options = kThrottleReopenOptions,
};

}  // namespace cairn::filters
