#include "filters/chaos/chaos.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string_view>
#include <utility>
#include <variant>

#include "base/sector.h"
#include "block/graph.h"
#include "filters/chaos/held_writes.h"
#include "filters/filter_driver.h"
#include "io/timer.h"
#include "schema/types_block_options.h"

namespace cairn::filters {

namespace chaos {

namespace {

constexpr uint32_t kAlways = 1000000;

struct Settings {
  uint64_t seed = 0;
  uint32_t max_delay_us = 0;
  bool reorder = false;
  bool tear = false;
  uint32_t read_errors = 0;  // of kAlways
  uint32_t write_errors = 0;
  uint32_t flush_errors = 0;
  int error = EIO;
};

Result<uint32_t> rate(std::string_view name, std::optional<uint32_t> given) {
  if (given.value_or(0) > kAlways) {
    return fail(EINVAL, "Parameter '{}' expects a rate of at most {}", name, kAlways);
  }
  return given.value_or(0);
}

Result<Settings> parse_settings(const schema::BlockdevOptionsChaos& options) {
  const auto reads = rate("read-errors", options.read_errors);
  const auto writes = rate("write-errors", options.write_errors);
  const auto flushes = rate("flush-errors", options.flush_errors);
  for (const auto* wrong : {&reads, &writes, &flushes}) {
    if (!*wrong) {
      return std::unexpected(wrong->error());
    }
  }
  constexpr uint32_t kLastErrno = 4095;
  if (options.errno_.value_or(EIO) == 0 || options.errno_.value_or(EIO) > kLastErrno) {
    return fail(EINVAL, "Parameter 'errno' expects a number from 1 to {}", kLastErrno);
  }
  return Settings{.seed = options.seed.value_or(0),
                  .max_delay_us = options.max_delay_us.value_or(0),
                  .reorder = options.reorder_writes.value_or(false),
                  .tear = options.tear_writes.value_or(false),
                  .read_errors = *reads,
                  .write_errors = *writes,
                  .flush_errors = *flushes,
                  .error = static_cast<int>(options.errno_.value_or(EIO))};
}

class ChaosDriver final : public FilterDriver {
 public:
  ChaosDriver(block::Edge& file, const Settings& settings)
      : FilterDriver(file), settings_(settings), chance_(settings.seed), held_(file) {}

  [[nodiscard]] io::Task<Result<void>> read(uint64_t offset, io::IoVector data) override {
    co_await delay();
    if (happens(settings_.read_errors)) {
      co_return failure();
    }
    co_return co_await held_.read(offset, std::move(data));
  }

  [[nodiscard]] io::Task<Result<void>> write(uint64_t offset, io::IoVector data,
                                             block::WriteFlags flags) override {
    co_await delay();
    if (happens(settings_.write_errors)) {
      if (settings_.tear) {
        co_await write_some(offset, std::move(data));
      }
      co_return failure();
    }
    Result<void> result;
    // A write beyond the end changes the length, which others look at.
    const bool hold = settings_.reorder && !flags.fua && offset + data.size() <= child().length();
    if (!hold || held_.bytes() + data.size() > HeldWrites::kMostBytes) {
      result = co_await held_.carry_out(chance_);
    }
    if (!result) {
      co_return result;
    }
    if (hold) {
      co_return held_.hold(offset, data);
    }
    co_return co_await child().write(offset, std::move(data), flags);
  }

  [[nodiscard]] io::Task<Result<void>> write_zeroes(uint64_t offset, uint64_t length,
                                                    block::ZeroFlags flags) override {
    Result<void> result = co_await before_change();
    if (result) {
      result = co_await child().write_zeroes(offset, length, flags);
    }
    co_return result;
  }

  [[nodiscard]] io::Task<Result<void>> discard(uint64_t offset, uint64_t length) override {
    Result<void> result = co_await before_change();
    if (result) {
      result = co_await child().discard(offset, length);
    }
    co_return result;
  }

  [[nodiscard]] io::Task<Result<void>> flush() override {
    co_await delay();
    if (happens(settings_.flush_errors)) {
      co_return failure();
    }
    co_return co_await quiesce();
  }

  [[nodiscard]] io::Task<Result<void>> quiesce() override {
    Result<void> result = co_await held_.carry_out(chance_);
    if (result) {
      result = co_await child().flush();
    }
    co_return result;
  }

  [[nodiscard]] io::Task<Result<void>> close() override {
    return held_.empty() ? FilterDriver::close() : quiesce();
  }

  [[nodiscard]] io::Task<Result<void>> resize(uint64_t length,
                                              block::ResizeOptions options) override {
    Result<void> result = co_await held_.carry_out(chance_);
    if (result) {
      result = co_await child().resize(length, options);
    }
    co_return result;
  }

  [[nodiscard]] io::Task<Result<block::BlockStatus>> status(uint64_t offset,
                                                            uint64_t length) override {
    Result<void> carried = co_await held_.carry_out(chance_);
    if (!carried) {
      co_return pass(carried);
    }
    co_return co_await child().status(offset, length);
  }

  // Writes that are held are carried out when those who made them are gone.
  [[nodiscard]] block::Permissions child_permissions(block::ChildRole role,
                                                     block::Permissions parents,
                                                     bool writable) const override {
    block::Permissions permissions = FilterDriver::child_permissions(role, parents, writable);
    if (writable && (settings_.reorder || !held_.empty())) {
      permissions.used |= block::PermissionSet::kWrite;
    }
    return permissions;
  }

  // What is held stays so, whatever comes next.
  [[nodiscard]] Result<bool> adopt_options(const block::NodeOptions& /*node*/,
                                           const schema::BlockdevOptions& options) override {
    const Result<Settings> settings =
        parse_settings(std::get<schema::BlockdevOptionsChaos>(options.branch));
    if (!settings) {
      return std::unexpected(settings.error());
    }
    if (settings->seed != settings_.seed) {
      chance_.seed(settings->seed);
    }
    settings_ = *settings;
    return true;
  }

 private:
  [[nodiscard]] bool happens(uint32_t of_a_million) {
    return of_a_million != 0 && chance_() % kAlways < of_a_million;
  }

  [[nodiscard]] std::unexpected<Error> failure() const {
    return std::unexpected(Error::from_errno(settings_.error));
  }

  io::Task<void> delay() {
    if (settings_.max_delay_us != 0) {
      const uint64_t us = chance_() % (uint64_t{settings_.max_delay_us} + 1);
      (void)co_await io::sleep_for(std::chrono::microseconds(static_cast<int64_t>(us)));
    }
  }

  // What zeroing and discarding have in common with writes that are not held.
  io::Task<Result<void>> before_change() {
    co_await delay();
    if (happens(settings_.write_errors)) {
      co_return failure();
    }
    co_return co_await held_.carry_out(chance_);
  }

  // Each sector of a write that is going to fail has an even chance to be written.
  io::Task<void> write_some(uint64_t offset, io::IoVector data) {
    Result<void> carried = co_await held_.carry_out(chance_);
    for (uint64_t done = 0; carried && done < data.size();) {
      const uint64_t at = offset + done;
      const uint64_t piece = std::min<uint64_t>(kSector - at % kSector, data.size() - done);
      if (chance_() % 2 == 0) {
        io::IoVector sector = data.slice(done, piece);
        // The write fails in any case.
        const Result<void> written = co_await child().write(at, std::move(sector));
        static_cast<void>(written);
      }
      done += piece;
    }
  }

  Settings settings_;
  std::mt19937_64 chance_;
  HeldWrites held_;
};

// `options` lives until the graph has opened the node.
io::Task<Result<std::unique_ptr<block::Driver>>> open(block::OpenContext& context,
                                                      const schema::BlockdevOptions& all_options) {
  const auto& options = std::get<schema::BlockdevOptionsChaos>(all_options.branch);
  const Result<Settings> settings = parse_settings(options);
  if (!settings) {
    co_return std::unexpected(settings.error());
  }
  const Result<block::Edge*> file =
      co_await context.open_child("file", options.file, block::ChildRole::kFiltered);
  if (!file) {
    co_return std::unexpected(file.error());
  }
  co_return std::make_unique<ChaosDriver>(**file, *settings);
}

constexpr std::string_view kReopenOptions[] = {"seed",         "max-delay-us", "reorder-writes",
                                               "tear-writes",  "read-errors",  "write-errors",
                                               "flush-errors", "errno"};

}  // namespace

}  // namespace chaos

const block::DriverInfo kChaosDriver = {
    .name = "chaos",
    .kind = block::DriverInfo::Kind::kProtocol,
    .open = chaos::open,
    .reopen_options = chaos::kReopenOptions,
};

}  // namespace cairn::filters
