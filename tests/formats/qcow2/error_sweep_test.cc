// The error sweep: every operation, with EIO and with ENOSPC, torn and not, at its first request,
// its second, and so on until none is hit. Nothing is corrupt afterwards, nothing that was flushed
// is lost, what was to change has its old bytes or its new ones, and the image goes on: the same
// again succeeds, and closing it leaves no cluster counted that nothing refers to.
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "block/create_options.h"
#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "formats/qcow2/create.h"
#include "tests/formats/qcow2/qcow2_test.h"
#include "tests/sim/content_model.h"

namespace cairn::qcow2 {
namespace {

using testing::ContentModel;
using testing::kZeroes;
using testing::WriteNumber;

constexpr uint64_t kSweptDisk = 64 * kPageCluster;
// What the disk holds before, durably: write 1 in its first half, and nothing in the second.
constexpr uint64_t kFilled = kSweptDisk / 2;

Result<void> amend(ImageWorld& image, const std::string& option, const std::string& value) {
  block::CreateOptions options(amend_option_table());
  if (auto set = options.set(option, value); !set) {
    return set;
  }
  return image.run(image.edge().amend(std::move(options)));
}

Result<void> take_snapshot(ImageWorld& image, const std::string& name) {
  return image.run(image.edge().create_snapshot({.id = {}, .name = name}));
}

Result<void> add_bitmap(ImageWorld& image, const std::string& name) {
  return image.run(block::add_bitmap(image.edge().node(),
                                     {.name = name, .granularity = 512, .persistent = true}));
}

// Compresses well.
Result<void> write_thin(ImageWorld& image, WriteNumber number, uint64_t offset) {
  std::vector<std::byte> data(kPageCluster);
  testing::fill_pattern(number, offset, std::span(data).first(100));
  return image.run(
      image.edge().write(offset, data.data(), data.size(), block::WriteFlags{.compressed = true}));
}

struct Sweep {
  const char* name;
  std::function<Result<void>(ImageWorld&)> run;
  // The range that it changes, and to what.
  uint64_t offset = 0;
  uint64_t length = 0;
  WriteNumber number = kZeroes;
  std::function<Result<void>(ImageWorld&)> prepare = {};
  bool advice = false;   // it may leave everything as it is
  bool retires = false;  // the image has to be opened again afterwards
  bool once = false;     // it is not there to be done again
  testing::Qcow2Shape shape = {.cluster_bits = 12, .size = kSweptDisk};
};

std::ostream& operator<<(std::ostream& out, const Sweep& sweep) { return out << sweep.name; }

Sweep write_sweep(const char* name, uint64_t offset, uint64_t length, block::WriteFlags flags = {},
                  std::function<Result<void>(ImageWorld&)> prepare = {}) {
  return {.name = name,
          .run =
              [=](ImageWorld& image) {
                const Result<void> written = image.write(2, offset, length, flags);
                return written && !flags.fua ? image.flush() : written;
              },
          .offset = offset,
          .length = length,
          .number = 2,
          .prepare = std::move(prepare)};
}

Sweep zero_sweep(const char* name, uint64_t offset, uint64_t length, block::ZeroFlags flags) {
  return {.name = name,
          .run =
              [=](ImageWorld& image) {
                const Result<void> zeroed = image.zero(offset, length, flags);
                return zeroed ? image.flush() : zeroed;
              },
          .offset = offset,
          .length = length};
}

std::vector<Sweep> data_sweeps() {
  const auto snapshot = [](ImageWorld& image) { return take_snapshot(image, "s"); };
  const auto thin = [](ImageWorld& image) {
    const Result<void> written = write_thin(image, 0, 60 * kPageCluster);
    return written ? image.flush() : written;
  };
  return {
      write_sweep("WriteInPlace", 2 * kPageCluster, 3 * kPageCluster),
      write_sweep("WriteThatAllocates", kFilled + kPageCluster, 5 * kPageCluster),
      write_sweep("PartialWrite", kFilled + 1000, 5000),
      write_sweep("PartialWriteOfWhatASnapshotShares", 3 * kPageCluster + 1000, 5000, {}, snapshot),
      write_sweep("PartialWriteOverCompressedData", 60 * kPageCluster + 512, 512, {}, thin),
      write_sweep("FuaWrite", kFilled + 700, 3 * kPageCluster, {.fua = true}),
      zero_sweep("Zero", 2 * kPageCluster, 3 * kPageCluster, {}),
      zero_sweep("PartialZero", 2 * kPageCluster + 100, 3 * kPageCluster, {}),
      zero_sweep("ZeroThatFreesSpace", 2 * kPageCluster, 3 * kPageCluster, {.may_unmap = true}),
      zero_sweep("ZeroWithFua", 2 * kPageCluster, 3 * kPageCluster, {.fua = true}),
      {.name = "Discard",
       .run =
           [](ImageWorld& image) {
             const Result<void> discarded = image.discard(2 * kPageCluster, 9 * kPageCluster);
             return discarded ? image.flush() : discarded;
           },
       .offset = 2 * kPageCluster,
       .length = 9 * kPageCluster,
       .advice = true},
      {.name = "Flush",
       .run = [](ImageWorld& image) { return image.flush(); },
       .prepare = [](ImageWorld& image) { return image.write(1, 0, kFilled / 2); }},
      {.name = "CompressedWrite",
       .run =
           [](ImageWorld& image) {
             const Result<void> written = write_thin(image, 2, 50 * kPageCluster);
             // The second time it may be there already.
             const bool there = !written && written.error().message().contains("can not overwrite");
             return written || there ? image.flush() : written;
           },
       .offset = 50 * kPageCluster,
       .length = 100,
       .number = 2},
  };
}

std::vector<Sweep> whole_sweeps() {
  const auto bitmap = [](ImageWorld& image) { return add_bitmap(image, "b"); };
  return {
      {.name = "SnapshotCreate",
       .run = [](ImageWorld& image) { return take_snapshot(image, "t"); }},
      {.name = "SnapshotApply",
       .run = [](ImageWorld& image) { return image.run(image.edge().apply_snapshot("1")); },
       .prepare = [](ImageWorld& image) { return take_snapshot(image, "s"); }},
      {.name = "SnapshotDelete",
       .run = [](ImageWorld& image) { return image.run(image.edge().delete_snapshot("1")); },
       .prepare = [](ImageWorld& image) { return take_snapshot(image, "s"); },
       .once = true},
      {.name = "ResizeUp",
       .run =
           [](ImageWorld& image) {
             return image.run(image.edge().resize(kSweptDisk + 5 * kPageCluster));
           }},
      {.name = "ResizeDown",
       .run =
           [](ImageWorld& image) {
             return image.run(image.edge().resize(kSweptDisk - 9 * kPageCluster));
           },
       .prepare =
           [](ImageWorld& image) { return image.zero(50 * kPageCluster, 14 * kPageCluster); }},
      {.name = "GrowthOfTheL1Table",
       .run = [](ImageWorld& image) { return image.run(image.edge().resize(uint64_t{4} << 30)); }},
      {.name = "BitmapAdd", .run = bitmap, .once = true},
      {.name = "BitmapRemove",
       .run =
           [](ImageWorld& image) {
             return image.run(block::remove_bitmap(image.edge().node(), "b"));
           },
       .prepare = bitmap,
       .once = true},
      {.name = "AmendDown",
       .run = [](ImageWorld& image) { return amend(image, "compat", "0.10"); },
       .prepare =
           [](ImageWorld& image) { return image.zero(50 * kPageCluster, 4 * kPageCluster); }},
      {.name = "AmendUp",
       .run = [](ImageWorld& image) { return amend(image, "compat", "1.1"); },
       .shape = {.version = 2, .cluster_bits = 12, .size = kSweptDisk}},
      {.name = "AmendLazyRefcounts",
       .run = [](ImageWorld& image) { return amend(image, "lazy_refcounts", "on"); }},
      {.name = "AmendRefcountWidth",
       .run = [](ImageWorld& image) { return amend(image, "refcount_bits", "64"); },
       .retires = true},
      {.name = "MakeEmpty",
       .run = [](ImageWorld& image) { return image.run(image.edge().make_empty()); },
       .length = kFilled},
  };
}

std::vector<Sweep> all_sweeps() {
  std::vector<Sweep> all = data_sweeps();
  for (Sweep& sweep : whole_sweeps()) {
    all.push_back(std::move(sweep));
  }
  return all;
}

// One run of an operation with an error at one of its requests.
class Trial {
 public:
  Trial(const Sweep& sweep, uint64_t request, int error)
      : sweep_(sweep), request_(request), error_(error), model_(kSweptDisk) {}

  // False when the operation made no request of that number.
  bool play() {
    prepare();
    if (::testing::Test::HasFatalFailure()) {
      return false;
    }
    image_.world().add_fault({.after = request_, .error = error_, .torn = request_ % 2 == 1});
    const auto change = model_.begin_change(sweep_.offset, sweep_.length,
                                            {.number = sweep_.number, .advice = sweep_.advice});
    const Result<void> result = sweep_.run(image_);
    const bool hit = image_.world().faults() != 0;
    image_.world().clear_faults();
    EXPECT_TRUE(result || hit) << result.error().message();
    if (!result) {
      EXPECT_NE(result.error().code(), 0);
      EXPECT_FALSE(result.error().message().empty());
    }
    model_.end_change(change, result.has_value());
    expect_content();
    go_on(result.has_value(), hit);
    return hit;
  }

 private:
  void prepare() {
    testing::Qcow2Builder builder(sweep_.shape);
    image_.world().add("image", builder.finish());
    ASSERT_TRUE(image_.open());
    ASSERT_TRUE(image_.write(1, 0, kFilled));
    model_.end_change(model_.begin_change(0, kFilled, {.number = 1}), true);
    ASSERT_TRUE(image_.flush());
    if (sweep_.prepare) {
      const Result<void> prepared = sweep_.prepare(image_);
      ASSERT_TRUE(prepared) << prepared.error().message();
    }
  }

  // Every byte is one that the disk may hold.
  void expect_content() {
    const uint64_t length = std::min(kSweptDisk, image_.edge().length());
    std::vector<std::byte> data(length);
    const auto handle = model_.begin_read();
    const Result<void> read = image_.run(image_.edge().read(0, data.data(), length));
    ASSERT_TRUE(read) << read.error().message();
    const auto wrong = model_.end_read(handle, 0, data);
    EXPECT_FALSE(wrong) << wrong.value_or("");
  }

  // The same again, and something else; then all is as if there had been no error.
  void go_on(bool succeeded, bool hit) {
    if (sweep_.retires && (succeeded || hit)) {
      ASSERT_TRUE(image_.close());
      ASSERT_TRUE(image_.open());
    }
    if (!succeeded || !sweep_.once) {
      const auto change = model_.begin_change(sweep_.offset, sweep_.length,
                                              {.number = sweep_.number, .advice = sweep_.advice});
      const Result<void> again = sweep_.run(image_);
      EXPECT_TRUE(again) << again.error().message();
      model_.end_change(change, again.has_value());
    }
    if (!sweep_.retires) {
      EXPECT_TRUE(image_.write(3, 40 * kPageCluster, 3 * kPageCluster));
      model_.end_change(model_.begin_change(40 * kPageCluster, 3 * kPageCluster, {.number = 3}),
                        true);
      EXPECT_TRUE(image_.flush());
    }
    expect_content();
    const Result<void> closed = image_.close();
    EXPECT_TRUE(closed) << closed.error().message();
    const auto report = image_.verify();
    EXPECT_EQ(report.corruptions, std::vector<std::string>{});
    EXPECT_EQ(report.leaks, 0u);
    EXPECT_EQ(image_.world().violations(), std::vector<std::string>{});
    ASSERT_TRUE(image_.open(false));
    expect_content();
    EXPECT_TRUE(image_.close());
  }

  const Sweep& sweep_;
  uint64_t request_;
  int error_;
  ImageWorld image_;
  ContentModel model_;
};

class Qcow2ErrorSweep : public ::testing::TestWithParam<Sweep> {};

TEST_P(Qcow2ErrorSweep, AnErrorAtAnyRequestIsToldAndCostsNothing) {
  for (const int error : {EIO, ENOSPC}) {
    uint64_t requests = 0;
    while (Trial(GetParam(), requests, error).play()) {
      ASSERT_FALSE(HasFailure()) << "error " << error << " at request " << requests;
      ++requests;
    }
    ASSERT_FALSE(HasFailure()) << "without an error, after " << requests;
    EXPECT_GT(requests, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Operations, Qcow2ErrorSweep, ::testing::ValuesIn(all_sweeps()),
                         [](const auto& sweep) { return std::string(sweep.param.name); });

// Storing bitmaps is what closing an image does: there is no second try.
TEST(Qcow2ErrorSweepAtClose, ABitmapIsStoredOrVoidAndNothingElseIsLost) {
  for (const int error : {EIO, ENOSPC}) {
    for (uint64_t request = 0, hit = 1; hit != 0; ++request) {
      SCOPED_TRACE(fmt::format("error {} at request {}", error, request));
      ImageWorld image;
      testing::Qcow2Builder builder({.cluster_bits = 12, .size = kSweptDisk});
      image.world().add("image", builder.finish());
      ASSERT_TRUE(image.open());
      ASSERT_TRUE(add_bitmap(image, "b"));
      ASSERT_TRUE(image.write(1, 0, 5 * kPageCluster));
      ASSERT_TRUE(image.flush());
      image.world().add_fault({.after = request, .error = error, .torn = request % 2 == 1});
      ::testing::internal::CaptureStderr();
      const Result<void> closed = image.close();
      static_cast<void>(::testing::internal::GetCapturedStderr());
      hit = image.world().faults();
      EXPECT_TRUE(closed || hit != 0);
      image.world().clear_faults();
      EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
      ASSERT_TRUE(image.open(false));
      EXPECT_TRUE(image.holds(1, 0, 5 * kPageCluster));
      const auto bitmap = block::get_bitmap(image.edge().node(), "b");
      ASSERT_TRUE(bitmap);
      EXPECT_TRUE(!closed || !(*bitmap)->inconsistent());
      for (uint64_t at = 0; at < 5 * kPageCluster && !(*bitmap)->inconsistent(); at += 512) {
        EXPECT_TRUE((*bitmap)->marked(at)) << at;
      }
      ASSERT_TRUE(image.close());
      if (::testing::Test::HasFailure()) {
        return;
      }
    }
  }
}

}  // namespace
}  // namespace cairn::qcow2
