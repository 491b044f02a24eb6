// Changing an image as a whole: its options, its backing file's name, emptying it; in every state
// that errors and power cuts can leave.
#include <functional>

#include <gtest/gtest.h>

#include "block/create_options.h"
#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "formats/qcow2/create.h"
#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::qcow2 {
namespace {

using testing::kZeroes;
using testing::Qcow2Builder;

constexpr uint64_t kAmended = 4096;  // bytes of a cluster
constexpr uint64_t kAmendedDisk = 64 * kAmended;

Result<void> amend(ImageWorld& image,
                   const std::vector<std::pair<std::string, std::string>>& changes) {
  block::CreateOptions options(amend_option_table());
  for (const auto& [name, value] : changes) {
    if (auto set = options.set(name, value); !set) {
      return set;
    }
  }
  return image.run(image.edge().amend(std::move(options)));
}

Result<void> change_backing(ImageWorld& image, std::string name) {
  return image.run(image.edge().change_backing(std::move(name), "raw"));
}

// Nothing is looked for behind the image.
Result<void> reopen(ImageWorld& image) {
  image.options().backing = schema::BlockdevRefOrNull{.value = schema::Null{}};
  return image.open();
}

void prepare_amended(ImageWorld& image, uint32_t version, const std::string& backing) {
  Qcow2Builder builder({.version = version,
                        .cluster_bits = 12,
                        .size = kAmendedDisk,
                        .backing_file = backing,
                        .backing_format = backing.empty() ? "" : "raw"});
  image.world().add("image", builder.finish());
  ASSERT_TRUE(reopen(image));
  ASSERT_TRUE(image.write(1, 0, kAmendedDisk));
  if (version >= 3) {
    ASSERT_TRUE(image.zero(4 * kAmended, 2 * kAmended));
    ASSERT_TRUE(image.zero(6 * kAmended, kAmended, {.may_unmap = true}));
  }
  ASSERT_TRUE(image.flush());
}

void expect_amended_content(ImageWorld& image, bool zeroes) {
  EXPECT_TRUE(image.holds(1, 0, 4 * kAmended));
  EXPECT_TRUE(image.holds(1, 7 * kAmended, kAmendedDisk - 7 * kAmended));
  EXPECT_TRUE(image.holds(zeroes ? kZeroes : 1, 4 * kAmended, 3 * kAmended));
}

struct WholeChange {
  const char* name;
  uint32_t version;
  std::string backing;
  std::function<Result<void>(ImageWorld&)> run;
  // Whether the header says what it is to say.
  std::function<bool(const Header&)> done;
};

const std::vector<WholeChange>& whole_changes() {
  const std::string other(300, 'o');
  static const std::vector<WholeChange> kAll = {
      {"down", 3, "", [](ImageWorld& i) { return amend(i, {{"compat", "0.10"}}); },
       [](const Header& h) { return h.version == 2; }},
      {"down over a backing file", 3, "base",
       [](ImageWorld& i) { return amend(i, {{"compat", "0.10"}}); },
       [](const Header& h) { return h.version == 2 && h.backing_file == "base"; }},
      {"up", 2, "base",
       [](ImageWorld& i) { return amend(i, {{"compat", "1.1"}, {"lazy_refcounts", "on"}}); },
       [](const Header& h) { return h.version == 3 && h.lazy_refcounts(); }},
      {"wide counts", 3, "", [](ImageWorld& i) { return amend(i, {{"refcount_bits", "64"}}); },
       [](const Header& h) { return h.refcount_order == 6; }},
      {"narrow counts", 3, "", [](ImageWorld& i) { return amend(i, {{"refcount_bits", "1"}}); },
       [](const Header& h) { return h.refcount_order == 0; }},
      {"another backing file", 3, "base",
       [other](ImageWorld& i) { return change_backing(i, other); },
       [other](const Header& h) { return h.backing_file == other; }},
      {"another long name", 3, std::string(700, 'l'),
       [other](ImageWorld& i) { return change_backing(i, other); },
       [other](const Header& h) { return h.backing_file == other; }},
      {"no backing file", 3, "base", [](ImageWorld& i) { return change_backing(i, ""); },
       [](const Header& h) { return h.backing_file.empty() && h.backing_format().empty(); }},
      {"a backing file", 2, "", [other](ImageWorld& i) { return change_backing(i, other); },
       [other](const Header& h) { return h.backing_file == other; }},
  };
  return kAll;
}

void expect_old_or_new(ImageWorld& image, const WholeChange& change, bool succeeded) {
  EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
  ASSERT_TRUE(reopen(image));
  const Header& header = image.driver().image().header();
  EXPECT_TRUE(!succeeded || change.done(header));
  EXPECT_TRUE(change.done(header) || header.backing_file == change.backing);
  expect_amended_content(image, change.version >= 3);
  // And it can be written to.
  EXPECT_TRUE(image.write(1, 0, 2 * kAmended));
  ASSERT_TRUE(image.close());
  EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
}

TEST(AmendSeries, AFailureAtAnyRequestLeavesASoundImage) {
  for (const WholeChange& change : whole_changes()) {
    bool done = false;
    for (uint64_t request = 0; !done; ++request) {
      ImageWorld image;
      prepare_amended(image, change.version, change.backing);
      image.world().add_fault({.after = request, .error = ENOSPC, .torn = request % 2 == 1});
      const Result<void> result = change.run(image);
      done = image.world().faults() == 0;
      image.world().clear_faults();
      ASSERT_TRUE(image.close());
      expect_old_or_new(image, change, result.has_value());
      if (::testing::Test::HasFailure()) {
        FAIL() << change.name << ", failure at request " << request;
      }
    }
  }
}

// From some request on nothing can be written any more, or in part, so what was begun can not be
// undone. The seed decides which sectors are.
TEST(AmendSeries, FailuresFromAnyRequestOnLeaveASoundImage) {
  constexpr uint64_t kSeeds = 12;
  for (const WholeChange& change : whole_changes()) {
    uint64_t failing = kSeeds;
    for (uint64_t request = 0; failing != 0; ++request) {
      failing = 0;
      for (uint64_t seed = 0; seed < kSeeds; ++seed) {
        ImageWorld image(request * kSeeds + seed);
        prepare_amended(image, change.version, change.backing);
        image.world().add_fault({.kind = testing::IoKind::kWrite,
                                 .after = request,
                                 .times = 1000,
                                 .error = ENOSPC,
                                 .torn = true});
        const Result<void> result = change.run(image);
        failing += image.world().faults() != 0 ? 1 : 0;
        image.world().clear_faults();
        const Result<void> closed = image.close();
        EXPECT_TRUE(closed || !result);
        expect_old_or_new(image, change, result.has_value());
        if (::testing::Test::HasFailure()) {
          FAIL() << change.name << ", failures from request " << request << " on, seed " << seed;
        }
      }
    }
  }
}

TEST(AmendSeries, APowerCutAtAnyRequestLeavesASoundImage) {
  for (const WholeChange& change : whole_changes()) {
    bool done = false;
    for (uint64_t request = 1; !done; ++request) {
      ImageWorld image(request * 17 + change.version);
      prepare_amended(image, change.version, change.backing);
      image.world().cut_power_at(request);
      const Result<void> result = change.run(image);
      done = image.world().powered();
      const Result<void> closed = image.close();
      static_cast<void>(closed);
      if (image.world().powered()) {
        image.world().cut_power();
      }
      image.world().restore_power();
      expect_old_or_new(image, change, result.has_value());
      if (::testing::Test::HasFailure()) {
        FAIL() << change.name << ", cut at request " << request;
      }
    }
  }
}

class AmendTest : public Qcow2Test {};

TEST_F(AmendTest, CountsThatDoNotFitAreRefused) {
  start({.cluster_bits = 12, .size = 1 << 20});
  ASSERT_TRUE(image_.write(1, 0, 1 << 16));
  ASSERT_TRUE(image_.run(image_.edge().create_snapshot({.id = {}, .name = "s"})));
  const auto refused = amend(image_, {{"refcount_bits", "1"}});
  ASSERT_FALSE(refused);
  EXPECT_TRUE(refused.error().message().starts_with(
      "Cannot decrease refcount entry width to 1 bits: Cluster at offset "));
  EXPECT_TRUE(image_.write(1, 0, 1 << 16));
  close_clean();
}

// Afterwards the image has to be opened again, so they are stored before.
TEST_F(AmendTest, AnotherWidthOfCountsKeepsBitmaps) {
  start({.cluster_bits = 12, .size = 1 << 20});
  ASSERT_TRUE(image_.run(block::add_bitmap(
      image_.edge().node(), {.name = "b", .granularity = 4096, .persistent = true})));
  ASSERT_TRUE(image_.write(1, 8192, 4096));
  ASSERT_TRUE(amend(image_, {{"refcount_bits", "64"}}));
  close_clean();
  open();
  const auto bitmap = block::get_bitmap(image_.edge().node(), "b");
  ASSERT_TRUE(bitmap);
  EXPECT_FALSE((*bitmap)->inconsistent());
  EXPECT_TRUE((*bitmap)->marked(8192));
  EXPECT_EQ((*bitmap)->count(), 4096u);
  close_clean();
}

TEST_F(AmendTest, Version2TakesBitmapsAwayWithTheirSpace) {
  start({.cluster_bits = 12, .size = 1 << 20});
  for (const char* name : {"b", "c"}) {
    ASSERT_TRUE(image_.run(block::add_bitmap(
        image_.edge().node(), {.name = name, .granularity = 512, .persistent = true})));
  }
  ASSERT_TRUE(image_.write(1, 8192, 512));
  ASSERT_TRUE(amend(image_, {{"compat", "0.10"}}));
  ASSERT_TRUE(image_.write(2, 16384, 512)) << "it goes on";
  close_clean();
  open();
  EXPECT_FALSE(block::get_bitmap(image_.edge().node(), "b"));
  EXPECT_EQ(image_.driver().image().header().extension(ExtensionType::kBitmaps), nullptr);
  ASSERT_TRUE(amend(image_, {{"compat", "1.1"}}));
  close_clean();
}

// Version 2 has no bit that says so.
TEST_F(AmendTest, AfterTheWayDownNoCountsArePostponed) {
  start({.cluster_bits = 12, .size = 1 << 20, .lazy_refcounts = true});
  ASSERT_TRUE(image_.write(1, 0, 1 << 18));
  ASSERT_TRUE(amend(image_, {{"compat", "0.10"}}));
  ASSERT_TRUE(image_.write(2, 1 << 18, 1 << 18));
  ASSERT_TRUE(image_.flush());
  image_.world().cut_power();
  static_cast<void>(image_.close());
  image_.world().restore_power();
  EXPECT_EQ(image_.verify().corruptions, std::vector<std::string>{});
}

// It has one compression type, for what is written and what is read back.
TEST_F(AmendTest, AfterTheWayDownCompressedDataIsReadAsItWasWritten) {
  start({.cluster_bits = 12, .size = 1 << 20, .zstd = true});
  ASSERT_TRUE(amend(image_, {{"compat", "0.10"}}));
  std::vector<std::byte> thin(kAmended);
  testing::fill_pattern(1, 0, std::span(thin).first(100));
  ASSERT_TRUE(image_.run(
      image_.edge().write(0, thin.data(), thin.size(), block::WriteFlags{.compressed = true})));
  EXPECT_TRUE(image_.holds(1, 0, 100));
  close_clean();
  open();
  EXPECT_TRUE(image_.holds(1, 0, 100));
  close_clean();
}

TEST_F(AmendTest, EmptyingDropsEverythingButWhatSnapshotsHold) {
  start({.cluster_bits = 12, .size = 1 << 20});
  ASSERT_TRUE(image_.write(1, 0, 1 << 18));
  ASSERT_TRUE(image_.run(image_.edge().create_snapshot({.id = {}, .name = "s"})));
  ASSERT_TRUE(image_.write(2, 0, 1 << 20));
  ASSERT_TRUE(image_.run(image_.edge().make_empty()));
  EXPECT_TRUE(image_.holds(kZeroes, 0, 1 << 20));
  EXPECT_TRUE(image_.write(3, 4096, 4096));
  ASSERT_TRUE(image_.run(image_.edge().apply_snapshot("1")));
  EXPECT_TRUE(image_.holds(1, 0, 1 << 18));
  EXPECT_TRUE(image_.holds(kZeroes, 1 << 18, 3 << 18));
  close_clean();
}

TEST_F(AmendTest, AReadOnlyImageShowsASnapshot) {
  start({.cluster_bits = 12, .size = 1 << 20});
  ASSERT_TRUE(image_.write(1, 0, 1 << 18));
  ASSERT_TRUE(image_.run(image_.edge().create_snapshot({.id = {}, .name = "s"})));
  ASSERT_TRUE(image_.write(2, 0, 1 << 20));
  ASSERT_TRUE(image_.run(image_.edge().resize(2 << 20, {})));
  EXPECT_EQ(image_.run(image_.edge().show_snapshot("1")).error().code(), EINVAL);
  close_clean();
  open(false);
  EXPECT_EQ(image_.run(image_.edge().show_snapshot("7")).error().code(), ENOENT);
  ASSERT_TRUE(image_.run(image_.edge().show_snapshot("1")));
  EXPECT_EQ(image_.edge().length(), 1u << 20);
  EXPECT_TRUE(image_.holds(1, 0, 1 << 18));
  EXPECT_TRUE(image_.holds(kZeroes, 1 << 18, 3 << 18));
  close_clean();
}

}  // namespace
}  // namespace cairn::qcow2
