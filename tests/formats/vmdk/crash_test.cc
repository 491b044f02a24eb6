// Power cuts and errors at every request of a history of writes: what was flushed is there, every
// byte is one that the disk may hold, the image is sound, and it goes on.
#include "base/bytes.h"
#include "tests/formats/vmdk/vmdk_test.h"
#include "tests/sim/content_model.h"

namespace cairn::vmdk {
namespace {

using testing::ContentModel;
using testing::WriteNumber;

constexpr uint64_t kHistoryDisk = 16 * kGrain;

struct Step {
  WriteNumber number;  // 0: zeroes
  uint64_t offset;
  uint64_t length;
  bool flush = false;
};

// Partial grains, whole ones, overwrites, zeroes; with flushes between them.
const std::vector<Step> kHistory = {
    {1, 0, 2 * kGrain},          {2, 3 * kGrain + 512, 1024, true}, {3, 3 * kGrain + 4096, 512},
    {4, kGrain / 2, kGrain},     {5, 7 * kGrain - 512, 1024, true}, {0, kGrain, 2 * kGrain},
    {6, 2 * kGrain + 100, 5000}, {7, 10 * kGrain, 4 * kGrain},      {8, 3 * kGrain, 512, true},
};
// Of a stream, whose grains are written once.
const std::vector<Step> kStreamHistory = {{1, 0, kGrain},
                                          {2, 3 * kGrain, 2 * kGrain, true},
                                          {0, 6 * kGrain, kGrain},
                                          {3, 9 * kGrain, kGrain, true}};

struct Shape {
  const char* name;
  VmdkWorld::Options options;
  bool stream = false;
  bool overlay = false;
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.name; }

class VmdkTrial {
 public:
  VmdkTrial(const Shape& shape, uint64_t seed)
      : shape_(shape),
        image_(seed),
        below_(kHistoryDisk),
        model_(kHistoryDisk, shape.overlay ? &below_ : nullptr) {
    VmdkWorld::Options options = shape.options;
    options.emplace_back("size", std::to_string(kHistoryDisk));
    if (shape.overlay) {
      EXPECT_TRUE(image_.create({{"size", std::to_string(kHistoryDisk)}}, "below.vmdk"));
      EXPECT_TRUE(image_.open(true, "below.vmdk"));
      EXPECT_TRUE(image_.write(99, 0, kHistoryDisk / 2));
      below_.end_change(below_.begin_change(0, kHistoryDisk / 2, {.number = 99}), true, true);
      EXPECT_TRUE(image_.close());
      model_ = ContentModel(kHistoryDisk, &below_);
      options.emplace_back("backing_file", "below.vmdk");
      options.emplace_back("backing_fmt", "vmdk");
    }
    EXPECT_TRUE(image_.create(options));
    make_durable();
    EXPECT_TRUE(image_.open());
  }

  // False when the power went, or the disk failed, on the way.
  bool play() {
    for (const Step& step : shape_.stream ? kStreamHistory : kHistory) {
      const auto change = model_.begin_change(step.offset, step.length, {.number = step.number});
      const Result<void> done = step.number == 0
                                    ? image_.zero(step.offset, step.length)
                                    : image_.write(step.number, step.offset, step.length);
      model_.end_change(change, done.has_value());
      if (!done) {
        return false;
      }
      if (step.flush) {
        const auto flush = model_.begin_flush();
        if (!image_.flush()) {
          return false;
        }
        model_.end_flush(flush);
      }
    }
    return true;
  }

  void expect_content() {
    std::vector<std::byte> data(kHistoryDisk);
    const auto handle = model_.begin_read();
    const Result<void> read = image_.run(image_.edge().read(0, data.data(), data.size()));
    ASSERT_TRUE(read) << read.error().message();
    const auto wrong = model_.end_read(handle, 0, data);
    EXPECT_FALSE(wrong) << wrong.value_or("");
    EXPECT_TRUE(image_.check());
  }

  VmdkWorld& image() { return image_; }
  ContentModel& model() { return model_; }

 private:
  // What creating wrote is on the disks: it is not what is tested here.
  void make_durable() {
    for (const char* name : {"image.vmdk", "image-s001.vmdk", "image-flat.vmdk", "below.vmdk"}) {
      if (auto* file = image_.world().find(name)) {
        const testing::SparseBytes bytes = file->disk.visible();
        image_.world().remove(name);
        image_.world().add(name, bytes);
      }
    }
  }

  const Shape& shape_;
  VmdkWorld image_;
  ContentModel below_;
  ContentModel model_;
};

class VmdkCrash : public ::testing::TestWithParam<Shape> {};

TEST_P(VmdkCrash, APowerCutAnywhereLosesNothingThatWasFlushed) {
  uint64_t request = 1;
  for (uint64_t cut = 1; cut != 0; ++request) {
    for (const uint64_t seed : {1, 2, 3}) {
      SCOPED_TRACE(fmt::format("cut at request {}, seed {}", request, seed));
      VmdkTrial trial(GetParam(), seed * 1000 + request);
      trial.image().world().cut_power_at(request);
      trial.play();
      cut = trial.image().world().powered() ? 0 : 1;
      static_cast<void>(trial.image().close());
      trial.image().world().restore_power();
      trial.model().power_cut();
      const auto opened = trial.image().open();
      ASSERT_TRUE(opened) << opened.error().message();
      trial.expect_content();
      EXPECT_TRUE(trial.image().close());
      if (::testing::Test::HasFailure()) {
        return;
      }
    }
  }
  EXPECT_GT(request, 8u);
}

TEST_P(VmdkCrash, AnErrorAnywhereIsToldAndCostsNothing) {
  for (const int error : {EIO, ENOSPC}) {
    for (uint64_t request = 0, hit = 1; hit != 0; ++request) {
      SCOPED_TRACE(fmt::format("error {} at request {}", error, request));
      VmdkTrial trial(GetParam(), 1);
      trial.image().world().add_fault({.after = request, .error = error, .torn = request % 2 == 1});
      const bool done = trial.play();
      hit = trial.image().world().faults();
      EXPECT_TRUE(done || hit != 0);
      trial.image().world().clear_faults();
      trial.expect_content();
      if (!GetParam().stream) {
        EXPECT_TRUE(trial.play()) << "the same again";
      }
      const auto closed = trial.image().close();
      EXPECT_TRUE(closed) << closed.error().message();
      const auto opened = trial.image().open(false);
      ASSERT_TRUE(opened) << opened.error().message();
      trial.expect_content();
      EXPECT_EQ(trial.image().world().violations(), std::vector<std::string>{});
      if (::testing::Test::HasFailure()) {
        return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Subformats, VmdkCrash,
                         ::testing::Values(Shape{"Sparse", {}}, Shape{"Overlay", {}, false, true},
                                           Shape{"ZeroedGrains", {{"zeroed_grain", "on"}}},
                                           Shape{"Flat", {{"subformat", "monolithicFlat"}}},
                                           Shape{"Split", {{"subformat", "twoGbMaxExtentSparse"}}},
                                           Shape{
                                               "Stream", {{"subformat", "streamOptimized"}}, true}),
                         [](const auto& shape) { return std::string(shape.param.name); });

}  // namespace
}  // namespace cairn::vmdk
