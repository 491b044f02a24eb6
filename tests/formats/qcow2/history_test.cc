// Random histories of concurrent requests against a model of what every byte may hold: in peace,
// with failing I/O, and with the power cut at any request.
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "io/task_group.h"
#include "tests/formats/qcow2/qcow2_test.h"
#include "tests/sim/content_model.h"
#include "tests/support/random.h"

namespace cairn::qcow2 {
namespace {

using testing::ContentModel;
using testing::Random;

enum class Trouble : uint8_t { kNone, kFaults, kPowerCut };

class History {
 public:
  History(uint64_t seed, Trouble trouble)
      : random_(seed),
        trouble_(trouble),
        image_(seed),
        shape_(choose_shape()),
        model_(shape_.size) {}

  // What is wrong, or nothing.
  std::optional<std::string> play() {
    testing::Qcow2Builder builder(shape_);
    image_.world().add("image", builder.finish());
    image_.options().l2_cache_size = static_cast<int64_t>(random_.pick({1, 1 << 14, 1 << 20}));
    image_.options().refcount_cache_size =
        static_cast<int64_t>(random_.pick({1, 1 << 14, 1 << 20}));
    image_.options().pass_discard_other = random_.chance(50);
    image_.world().set_delays(std::chrono::milliseconds(1));
    const int rounds = trouble_ == Trouble::kPowerCut ? 3 : 2;
    for (int round = 0; round < rounds && !complaint_; ++round) {
      play_round();
    }
    return complaint_;
  }

  [[nodiscard]] std::string describe() const {
    return fmt::format("v{} cluster_bits={} refcount_order={} size={}", shape_.version,
                       shape_.cluster_bits, shape_.refcount_order, shape_.size);
  }

 private:
  testing::Qcow2Shape choose_shape() {
    testing::Qcow2Shape shape;
    shape.version = random_.chance(20) ? 2 : 3;
    shape.cluster_bits = static_cast<uint32_t>(random_.pick({9, 9, 10, 12, 16}));
    shape.refcount_order =
        shape.version == 2 ? 4 : static_cast<uint32_t>(random_.below(kMaxRefcountOrder + 1));
    shape.size = (64 + random_.below(200)) << shape.cluster_bits;
    shape.size -= random_.chance(50) ? 512 : 0;
    return shape;
  }

  void complain(std::string what) {
    if (!complaint_) {
      complaint_ = std::move(what);
    }
  }

  void play_round() {
    if (auto opened = image_.open(); !opened) {
      return complain("open: " + opened.error().message());
    }
    arm();
    io::TaskGroup workers;
    for (int i = 0; i < 4; ++i) {
      workers.spawn(work(random_.fork(), 40));
    }
    image_.run(workers.join());
    image_.world().clear_faults();
    if (trouble_ == Trouble::kPowerCut) {
      if (image_.world().powered()) {
        image_.world().cut_power();
      }
      model_.power_cut();
      static_cast<void>(image_.close());
      image_.world().restore_power();
    } else {
      const auto flush = model_.begin_flush();
      if (auto closed = image_.close(); !closed) {
        return complain("close: " + closed.error().message());
      }
      model_.end_flush(flush);
    }
    check();
  }

  void arm() {
    if (trouble_ == Trouble::kFaults) {
      for (int i = 0; i < 8; ++i) {
        image_.world().add_fault(
            {.kind = random_.pick({testing::IoKind::kWrite, testing::IoKind::kFlush,
                                   testing::IoKind::kZero, testing::IoKind::kDiscard,
                                   testing::IoKind::kRead}),
             .after = random_.below(150),
             .times = 1 + random_.below(3),
             .error = random_.pick({EIO, ENOSPC}),
             .torn = random_.chance(50)});
      }
    } else if (trouble_ == Trouble::kPowerCut) {
      image_.world().cut_power_at(random_.below(400));
    }
  }

  void check() {
    const auto report = image_.verify();
    if (!report.corruptions.empty()) {
      complain("corruption: " + report.corruptions.front());
    }
    if (report.leaks != 0 && trouble_ == Trouble::kNone) {
      complain(fmt::format("{} leaks", report.leaks));
    }
    for (const std::string& violation : image_.world().violations()) {
      complain("violation: " + violation);
    }
    if (auto opened = image_.open(false); !opened) {
      return complain("reopen: " + opened.error().message());
    }
    std::vector<std::byte> data(shape_.size);
    const Result<void> read = image_.run(image_.edge().read(0, data.data(), data.size()));
    if (!read) {
      complain("read: " + read.error().message());
    } else if (auto wrong = model_.settle(0, data); wrong) {
      complain(*wrong);
    }
    static_cast<void>(image_.close());
  }

  io::Task<void> work(Random random, int requests) {
    while (requests-- > 0 && image_.world().powered()) {
      const uint64_t cluster = shape_.cluster_size();
      uint64_t length =
          random.chance(30) ? 512 * (1 + random.below(4)) : 1 + random.below(4 * cluster);
      length = std::min(length, shape_.size);
      uint64_t offset = random.below(shape_.size - length + 1);
      if (random.chance(30)) {
        offset = align_down(offset, cluster);
      }
      const std::array<unsigned, 5> weights{50, 20, 12, 12, 8};
      switch (random.weighted(weights)) {
        case 0:
          co_await write(offset, length, random.chance(10));
          break;
        case 1:
          co_await read(offset, length);
          break;
        case 2:
          co_await zero(offset, length, random.chance(50));
          break;
        case 3:
          co_await discard(offset, length);
          break;
        default:
          co_await flush();
      }
    }
  }

  io::Task<void> write(uint64_t offset, uint64_t length, bool fua) {
    const testing::WriteNumber number = ++last_write_;
    std::vector<std::byte> data(length);
    testing::fill_pattern(number, offset, data);
    const auto change = model_.begin_change(offset, length, {.number = number});
    block::WriteFlags flags{.fua = fua};
    const Result<void> result = co_await image_.edge().write(offset, data.data(), length, flags);
    finish(change, result, fua);
  }

  io::Task<void> zero(uint64_t offset, uint64_t length, bool may_unmap) {
    const auto change = model_.begin_change(offset, length, {.number = testing::kZeroes});
    block::ZeroFlags flags{.may_unmap = may_unmap};
    const Result<void> result = co_await image_.edge().write_zeroes(offset, length, flags);
    finish(change, result, false);
  }

  io::Task<void> discard(uint64_t offset, uint64_t length) {
    const auto change =
        model_.begin_change(offset, length, {.number = testing::kZeroes, .advice = true});
    const Result<void> result = co_await image_.edge().discard(offset, length);
    finish(change, result, false);
  }

  io::Task<void> read(uint64_t offset, uint64_t length) {
    std::vector<std::byte> data(length);
    const auto handle = model_.begin_read();
    const Result<void> result = co_await image_.edge().read(offset, data.data(), length);
    if (!result) {
      model_.drop_read(handle);
      expect_trouble(result);
    } else if (auto wrong = model_.end_read(handle, offset, data); wrong) {
      complain(*wrong);
    }
  }

  io::Task<void> flush() {
    const auto handle = model_.begin_flush();
    const Result<void> result = co_await image_.edge().flush();
    if (result) {
      model_.end_flush(handle);
    } else {
      expect_trouble(result);
    }
  }

  void finish(ContentModel::Handle change, const Result<void>& result, bool durable) {
    model_.end_change(change, result.has_value(), durable && result.has_value());
    expect_trouble(result);
  }
  void expect_trouble(const Result<void>& result) {
    if (!result && trouble_ == Trouble::kNone) {
      complain("failed: " + result.error().message());
    }
  }

  Random random_;
  Trouble trouble_;
  ImageWorld image_;
  testing::Qcow2Shape shape_;
  ContentModel model_;
  testing::WriteNumber last_write_ = 0;
  std::optional<std::string> complaint_;
};

class Qcow2HistoryTest : public ::testing::TestWithParam<Trouble> {};

TEST_P(Qcow2HistoryTest, EveryByteIsOneThatItsHistoryAdmits) {
  const char* only = std::getenv("CAIRN_SEED");
  const char* count = std::getenv("CAIRN_HISTORIES");
  const uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 10) : 1;
  const uint64_t histories = only != nullptr    ? 1
                             : count != nullptr ? std::strtoull(count, nullptr, 10)
                                                : 150;
  for (uint64_t seed = first; seed < first + histories; ++seed) {
    History history(seed, GetParam());
    const auto complaint = history.play();
    ASSERT_FALSE(complaint.has_value())
        << "CAIRN_SEED=" << seed << " (" << history.describe() << "): " << *complaint;
  }
}

INSTANTIATE_TEST_SUITE_P(Troubles, Qcow2HistoryTest,
                         ::testing::Values(Trouble::kNone, Trouble::kFaults, Trouble::kPowerCut),
                         [](const auto& trouble) {
                           switch (trouble.param) {
                             case Trouble::kNone:
                               return "InPeace";
                             case Trouble::kFaults:
                               return "WithFailingRequests";
                             case Trouble::kPowerCut:
                               break;
                           }
                           return "WithPowerCuts";
                         });

}  // namespace
}  // namespace cairn::qcow2
