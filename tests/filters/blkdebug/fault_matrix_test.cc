// The fault matrix: whatever qcow2 is about to do, every kind of request fails from then on, with
// EIO and with ENOSPC, once and for good. Nothing is corrupt afterwards, what was flushed is there,
// what has failed was told, and no byte holds what nobody wrote.
#include <cerrno>
#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "filters/blkdebug/blkdebug.h"
#include "tests/formats/qcow2/qcow2_test.h"
#include "tests/sim/content_model.h"

namespace cairn::qcow2 {
namespace {

using schema::BlkdebugEvent;
using schema::BlkdebugIOType;
using testing::ContentModel;
using testing::kZeroes;
using testing::WriteNumber;

// Small, so that little work makes every structure grow: a refcount block counts 64 clusters, and
// the refcount table has room for 64 blocks.
constexpr uint64_t kSmall = 512;
constexpr uint64_t kDisk = 256 << 10;
constexpr uint64_t kBaseDisk = kDisk / 2;  // behind its end, holes read as zeroes
constexpr uint64_t kCounted = 64 * 64;
constexpr WriteNumber kBase = 1;

// A disk on a backing file, with all kinds of requests made to it, and a model of what it holds.
class Workload {
 public:
  Workload() {
    std::vector<std::byte> below(kBaseDisk);
    testing::fill_pattern(kBase, 0, below);
    testing::SparseBytes base(kBaseDisk);
    base.write(0, below);
    image_.world().add("base", std::move(base));
    testing::Qcow2Builder builder({.cluster_bits = 9, .refcount_order = 6, .size = kDisk});
    builder.leak(kCounted - 120);
    image_.world().add("image", builder.finish());
    image_.add_driver(filters::kBlkdebugDriver);
    schema::BlockdevOptions file;
    file.driver = schema::BlockdevDriver::kFile;
    schema::BlockdevOptionsFile branch;
    branch.filename = "base";
    file.branch = branch;
    file.read_only = true;
    image_.options().backing.emplace();
    image_.options().backing->value = schema::Box<schema::BlockdevOptions>(file);
  }

  // Runs it all on rules; false when the image could not be opened on them.
  bool play(const schema::BlockdevOptionsBlkdebug& rules) {
    image_.set_filter([&rules](schema::BlockdevOptions file) {
      schema::BlockdevOptions options;
      schema::BlockdevOptionsBlkdebug branch = rules;
      branch.image.value = schema::Box<schema::BlockdevOptions>(std::move(file));
      options.driver = schema::BlockdevDriver::kBlkdebug;
      options.branch = std::move(branch);
      return options;
    });
    ::testing::internal::CaptureStderr();
    const Result<void> opened = image_.open();
    if (opened) {
      work();
      note(image_.close());
    } else {
      note(opened);
    }
    static_cast<void>(::testing::internal::GetCapturedStderr());
    return opened.has_value();
  }

  // The image without rules, as the next user finds it.
  void inspect() {
    model_.power_cut();
    const auto report = image_.verify();
    EXPECT_EQ(report.corruptions, std::vector<std::string>{});
    image_.set_filter({});
    const Result<void> opened = image_.open();
    ASSERT_TRUE(opened) << opened.error().message();
    const uint64_t length = image_.edge().length();
    EXPECT_TRUE(model_.settle_length(length)) << length;
    std::vector<std::byte> data(std::min(length, kDisk));
    const Result<void> read = image_.run(image_.edge().read(0, data.data(), data.size()));
    ASSERT_TRUE(read) << read.error().message();
    const auto wrong = model_.settle(0, data);
    EXPECT_FALSE(wrong) << wrong.value_or("");
    EXPECT_TRUE(image_.write(90, 0, 4096));
    EXPECT_TRUE(image_.flush());
    EXPECT_TRUE(image_.holds(90, 0, 4096));
    EXPECT_TRUE(image_.close());
  }

  [[nodiscard]] uint64_t failures() const { return failures_; }

 private:
  bool note(const Result<void>& result) {
    if (!result) {
      ++failures_;
      EXPECT_NE(result.error().code(), 0);
      EXPECT_FALSE(result.error().message().empty());
    }
    return result.has_value();
  }

  void change(uint64_t offset, uint64_t length, ContentModel::Values values,
              const std::function<Result<void>()>& run) {
    const auto handle = model_.begin_change(offset, length, values);
    model_.end_change(handle, note(run()));
  }
  void write(WriteNumber number, uint64_t offset, uint64_t length, block::WriteFlags flags = {}) {
    const auto handle = model_.begin_change(offset, length, {.number = number});
    model_.end_change(handle, note(image_.write(number, offset, length, flags)), flags.fua);
  }
  void zero(uint64_t offset, uint64_t length, block::ZeroFlags flags) {
    change(offset, length, {.number = kZeroes}, [&] { return image_.zero(offset, length, flags); });
  }
  void flush() {
    const auto handle = model_.begin_flush();
    if (note(image_.flush())) {
      model_.end_flush(handle);
    }
  }
  void read(uint64_t offset, uint64_t length) {
    std::vector<std::byte> data(length);
    const auto handle = model_.begin_read();
    if (!note(image_.run(image_.edge().read(offset, data.data(), length)))) {
      model_.drop_read(handle);
      return;
    }
    const auto wrong = model_.end_read(handle, offset, data);
    EXPECT_FALSE(wrong) << wrong.value_or("");
  }
  void resize(uint64_t length) {
    model_.begin_resize(length, {.number = kZeroes});
    const bool done = note(image_.run(image_.edge().resize(length)));
    model_.end_resize(done, image_.edge().length() == length);
  }
  // Compresses well.
  void write_thin(uint64_t offset) {
    change(offset, kSmall, {.number = kZeroes}, [&] {
      std::vector<std::byte> data(kSmall);
      return image_.run(image_.edge().write(offset, data.data(), data.size(),
                                            block::WriteFlags{.compressed = true}));
    });
  }

  void work() {
    read(0, 3000);
    write(2, 700, 3000);
    write(3, 64 * 1024 + 100, 700, {.fua = true});
    flush();
    write_thin(200 * kSmall);
    write_thin(201 * kSmall);
    flush();
    read(200 * kSmall, 2 * kSmall);
    note(image_.run(image_.edge().create_snapshot({.id = {}, .name = "s"})));
    write(4, 1000, 5000);
    flush();
    write(5, 150000, 40000);
    flush();
    zero(1024, 2048, {.may_unmap = true});
    zero(151000, 700, {});
    change(155000, 10000, {.number = kZeroes, .advice = true},
           [&] { return image_.discard(155000, 10000); });
    flush();
    note(image_.run(image_.edge().delete_snapshot("1")));
    resize(8 * kDisk);
    resize(kDisk);
    read(0, kDisk);
    write(6, 0, 10000);
    change(0, kDisk, {.backing = true}, [&] { return image_.run(image_.edge().make_empty()); });
    write(7, 5000, 10000);
    write(8, 5100, 100);
    flush();
    write(9, 100000, 3000);
  }

  static ContentModel filled() {
    ContentModel model(kBaseDisk);
    model.end_change(model.begin_change(0, kBaseDisk, {.number = kBase}), true, true);
    return model;
  }

  ContentModel base_ = filled();
  ContentModel model_{kDisk, &base_};
  ImageWorld image_;
  uint64_t failures_ = 0;
};

schema::BlockdevOptionsBlkdebug rules_for(BlkdebugEvent event) {
  schema::BlockdevOptionsBlkdebug options;
  const bool unaligned = schema::to_string(event).starts_with("pwritev_rmw");
  if (unaligned) {
    options.align = 1024;
  }
  return options;
}

std::vector<BlkdebugEvent> all_events() {
  std::vector<BlkdebugEvent> events;
  for (int i = 0; i <= static_cast<int>(BlkdebugEvent::kNone); ++i) {
    events.push_back(static_cast<BlkdebugEvent>(i));
  }
  return events;
}

// Why an event does not come in this work; empty: it does.
std::string_view why_never(BlkdebugEvent event) {
  switch (event) {
    case BlkdebugEvent::kVmstateLoad:
    case BlkdebugEvent::kVmstateSave:
      return "no program here saves or loads the state of a machine";
    case BlkdebugEvent::kCorWrite:
      return "it is copy-on-read's, whose test is cor_write_test.cc";
    default:
      return "";
  }
}

class Qcow2FaultMatrix : public ::testing::TestWithParam<BlkdebugEvent> {};

TEST_P(Qcow2FaultMatrix, NoFaultCorruptsAnythingOrLosesWhatWasFlushed) {
  const BlkdebugIOType kinds[] = {BlkdebugIOType::kRead,        BlkdebugIOType::kWrite,
                                  BlkdebugIOType::kWriteZeroes, BlkdebugIOType::kDiscard,
                                  BlkdebugIOType::kFlush,       BlkdebugIOType::kBlockStatus};
  for (const BlkdebugIOType kind : kinds) {
    for (const int error : {EIO, ENOSPC}) {
      for (const bool once : {true, false}) {
        SCOPED_TRACE(
            fmt::format("{} fails with {}{}", schema::to_string(kind), error, once ? " once" : ""));
        schema::BlockdevOptionsBlkdebug rules = rules_for(GetParam());
        rules.inject_error.emplace().push_back(
            {.event = GetParam(), .iotype = kind, .errno_ = error, .once = once});
        Workload workload;
        workload.play(rules);
        workload.inspect();
        if (HasFailure()) {
          return;
        }
      }
    }
  }
}

TEST_P(Qcow2FaultMatrix, EveryEventComes) {
  schema::BlockdevOptionsBlkdebug rules = rules_for(GetParam());
  rules.inject_error.emplace().push_back({.event = GetParam(), .errno_ = EIO});
  Workload workload;
  workload.play(rules);
  EXPECT_EQ(workload.failures() == 0, !why_never(GetParam()).empty()) << why_never(GetParam());
  workload.inspect();
}

INSTANTIATE_TEST_SUITE_P(Events, Qcow2FaultMatrix, ::testing::ValuesIn(all_events()),
                         [](const auto& event) {
                           return std::string(schema::to_string(event.param));
                         });

TEST(Qcow2FaultMatrix, ReportsNothingWithoutRules) {
  Workload workload;
  EXPECT_TRUE(workload.play({}));
  EXPECT_EQ(workload.failures(), 0u);
  workload.inspect();
}

}  // namespace
}  // namespace cairn::qcow2
