#include "filters/blkreplay.h"

#include <memory>
#include <utility>
#include <variant>

#include "block/graph.h"
#include "filters/filter_driver.h"
#include "io/mutex.h"
#include "schema/types_block_options.h"

namespace cairn::filters {

namespace {

class BlkreplayDriver final : public FilterDriver {
 public:
  using FilterDriver::FilterDriver;

  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override {
    const auto turn = co_await turn_.lock();
    co_return co_await child().read(offset, std::move(data));
  }
  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override {
    const auto turn = co_await turn_.lock();
    co_return co_await child().write(offset, std::move(data), flags);
  }
  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override {
    const auto turn = co_await turn_.lock();
    co_return co_await child().write_zeroes(offset, length, flags);
  }
  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override {
    const auto turn = co_await turn_.lock();
    co_return co_await child().discard(offset, length);
  }
  [[nodiscard]] io::Task<Result<void>> flush() override {
    const auto turn = co_await turn_.lock();
    co_return co_await child().flush();
  }

 private:
  io::AsyncMutex turn_;
};

// `options` lives until the graph has opened the node.
io::Task<Result<std::unique_ptr<block::Driver>>> open_blkreplay(
    block::OpenContext& context, const schema::BlockdevOptions& all_options) {
  const auto& options = std::get<schema::BlockdevOptionsBlkreplay>(all_options.branch);
  const Result<block::Edge*> image =
      co_await context.open_child("image", options.image, block::ChildRole::kFiltered);
  if (!image) {
    co_return std::unexpected(image.error());
  }
  co_return std::make_unique<BlkreplayDriver>(**image);
}

}  // namespace

const block::DriverInfo kBlkreplayDriver = {
    .name = "blkreplay",
    .kind = block::DriverInfo::Kind::kProtocol,
    .open = open_blkreplay,
    .can_reopen = false,
};

}  // namespace cairn::filters
