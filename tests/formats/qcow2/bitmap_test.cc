// Bitmaps that an image keeps: loading, marking as in use, storing, errors and power cuts.
#include "tests/formats/qcow2/bitmap_test.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "block/dirty_bitmap.h"
#include "block/dirty_bitmap_ops.h"
#include "formats/qcow2/bitmap_directory.h"
#include "tests/support/random.h"

namespace cairn::qcow2 {
namespace {

using block::DirtyBitmap;
using testing::Random;

class Qcow2BitmapTest : public ::testing::Test {
 protected:
  void start(testing::Qcow2Shape shape) {
    testing::Qcow2Builder builder(std::move(shape));
    image_.world().add("image", builder.finish());
    open();
  }
  void open(bool writable = true) {
    const auto opened = image_.open(writable);
    ASSERT_TRUE(opened) << opened.error().message();
  }
  void reopen(bool writable = true) {
    const auto closed = image_.close();
    ASSERT_TRUE(closed) << closed.error().message();
    open(writable);
  }
  std::vector<std::byte> bits_of(std::string_view name) {
    std::vector<std::byte> bits;
    const auto take = [&bits](std::span<const std::byte> bytes) {
      bits.insert(bits.end(), bytes.begin(), bytes.end());
    };
    EXPECT_TRUE(block::read_bitmap(image_.node(), name, take));
    return bits;
  }
  // No leaks, no corruption, by the engine's own count.
  void expect_sound() {
    const auto checked = image_.run(image_.edge().node().driver().check({}));
    ASSERT_TRUE(checked);
    EXPECT_EQ(checked->corruptions, 0);
    EXPECT_EQ(checked->leaks, 0);
  }

  BitmapWorld image_;
};

TEST_F(Qcow2BitmapTest, KeepsBitsAndStateOverReopens) {
  for (const uint32_t cluster_bits : {9U, 12U, 16U}) {
    SCOPED_TRACE(cluster_bits);
    start({.cluster_bits = cluster_bits, .size = 8 << 20});
    ASSERT_TRUE(image_.add("fine", 512));
    ASSERT_TRUE(image_.add("coarse", 1 << 20));
    ASSERT_TRUE(image_.add("off", 4096));
    ASSERT_TRUE(image_.write(1, 1000, 5000));
    ASSERT_TRUE(image_.run(block::enable_bitmap(image_.node(), "off", false)));
    ASSERT_TRUE(image_.write(2, 5 << 20, 2 << 20));
    const uint64_t fine = image_.find("fine")->count();
    const std::vector<std::byte> bits = bits_of("fine");
    for (const bool writable : {true, false, true}) {
      reopen(writable);
      EXPECT_EQ(image_.find("fine")->count(), fine);
      EXPECT_EQ(bits_of("fine"), bits);
      EXPECT_EQ(image_.find("coarse")->count(), uint64_t{3} << 20);
      EXPECT_EQ(image_.find("off")->count(), 8192U);
      EXPECT_FALSE(image_.find("off")->enabled());
      EXPECT_TRUE(image_.find("fine")->recording());
      EXPECT_EQ(image_.find("fine")->read_only(), !writable);
      expect_sound();
    }
    ASSERT_TRUE(image_.close());
  }
}

TEST_F(Qcow2BitmapTest, IsInUseFromTheFirstWriteToTheClose) {
  start({.size = 1 << 20});
  ASSERT_TRUE(image_.add("on"));
  ASSERT_TRUE(image_.add("off"));
  ASSERT_TRUE(image_.run(block::enable_bitmap(image_.node(), "off", false)));
  EXPECT_EQ(image_.in_use_on_disk("on"), true) << "new ones are";
  reopen();
  EXPECT_EQ(image_.in_use_on_disk("on"), false);
  ASSERT_TRUE(image_.write(1, 0, 512));
  EXPECT_EQ(image_.in_use_on_disk("on"), true);
  EXPECT_EQ(image_.in_use_on_disk("off"), false) << "a write does not change it";
  ASSERT_TRUE(image_.run(block::clear_bitmap(image_.node(), "off")));
  EXPECT_EQ(image_.in_use_on_disk("off"), true);
}

TEST_F(Qcow2BitmapTest, ABitmapFoundInUseIsInconsistentAndCanOnlyBeRemoved) {
  start({.size = 1 << 20});
  ASSERT_TRUE(image_.add("b"));
  ASSERT_TRUE(image_.write(1, 0, 512));
  image_.world().cut_power();
  static_cast<void>(image_.close());
  image_.world().restore_power();
  // As another program leaves it.
  opened_by_another_program(image_.file());
  open();
  ASSERT_NE(image_.find("b"), nullptr);
  EXPECT_TRUE(image_.find("b")->inconsistent());
  ASSERT_TRUE(image_.write(2, 65536, 512));
  EXPECT_EQ(image_.run(block::clear_bitmap(image_.node(), "b")).error().message(),
            "Bitmap 'b' is inconsistent and cannot be used");
  EXPECT_EQ(image_.run(image_.edge().resize(2 << 20)).error().message(),
            "Bitmap 'b' is inconsistent and cannot be used");
  reopen();
  EXPECT_TRUE(image_.find("b")->inconsistent()) << "closing does not make it right";
  ASSERT_TRUE(image_.run(block::remove_bitmap(image_.node(), "b")));
  reopen();
  EXPECT_EQ(image_.find("b"), nullptr);
}

TEST_F(Qcow2BitmapTest, RemovingGivesAllSpaceBack) {
  start({.cluster_bits = 12, .size = 64 << 20});
  ASSERT_TRUE(image_.add("one", 512));
  ASSERT_TRUE(image_.add("two", 512));
  for (uint64_t at = 0; at < 64 << 20; at += 1 << 20) {
    ASSERT_TRUE(image_.write(1, at, 512));
  }
  reopen();
  ASSERT_TRUE(image_.run(block::remove_bitmap(image_.node(), "one")));
  reopen();
  EXPECT_EQ(image_.find("two")->count(), 64U * 512);
  expect_sound();
  ASSERT_TRUE(image_.run(block::remove_bitmap(image_.node(), "two")));
  reopen();
  EXPECT_EQ(image_.driver().image().header().extension(ExtensionType::kBitmaps), nullptr);
  expect_sound();
}

TEST_F(Qcow2BitmapTest, FollowsTheSizeOfTheDisk) {
  start({.cluster_bits = 9, .size = 4 << 20});
  ASSERT_TRUE(image_.add("b", 512));
  ASSERT_TRUE(image_.write(1, 3 << 20, 1 << 20));
  ASSERT_TRUE(image_.write(2, 4096, 512));
  for (const uint64_t size : {uint64_t{1} << 30, uint64_t{7} << 19, uint64_t{1} << 20}) {
    ASSERT_TRUE(image_.run(image_.edge().resize(size)));
    reopen();
    EXPECT_EQ(image_.find("b")->length(), size);
    EXPECT_EQ(image_.find("b")->count(),
              512 + (std::clamp<uint64_t>(size, 3 << 20, 4 << 20) - (uint64_t{3} << 20)));
    expect_sound();
  }
}

TEST_F(Qcow2BitmapTest, WithoutRoomForItsBitsMoreIsMarkedAndNothingLost) {
  start({.cluster_bits = 9, .size = 8 << 20});
  ASSERT_TRUE(image_.add("b", 512));
  ASSERT_TRUE(image_.write(1, 0, 512));
  ASSERT_TRUE(image_.flush());
  const uint64_t end = image_.file().disk.visible().size();
  image_.world().add_fault(
      {.kind = testing::IoKind::kWrite, .offset = end, .times = 1000, .error = ENOSPC});
  ::testing::internal::CaptureStderr();
  const auto closed = image_.close();
  EXPECT_NE(::testing::internal::GetCapturedStderr().find("more marked"), std::string::npos);
  EXPECT_TRUE(closed) << closed.error().message();
  image_.world().clear_faults();
  open();
  EXPECT_FALSE(image_.find("b")->inconsistent());
  EXPECT_TRUE(image_.find("b")->marked(0));
  EXPECT_EQ(image_.find("b")->count(), 4096U * 512);
}

// Opens, changes bitmaps and disk, closes. What it did to the disk is in `written`.
struct Session {
  BitmapWorld& image;
  Random random;
  std::vector<uint64_t> written = {};  // successfully, since bitmap "a" was cleared

  bool play() {
    if (!image.open()) {
      return false;
    }
    if (image.find("a") == nullptr) {
      static_cast<void>(image.add("a", 512));
    }
    for (int step = 0; step < 6; ++step) {
      switch (random.below(7)) {
        case 0:
          static_cast<void>(image.add("extra", 1024));
          break;
        case 1:
          static_cast<void>(image.run(block::remove_bitmap(image.node(), "extra")));
          break;
        case 2:
          if (image.run(block::clear_bitmap(image.node(), "a"))) {
            written.clear();
          }
          break;
        case 3:
          static_cast<void>(image.flush());
          break;
        default: {
          const uint64_t at = random.below(600) * 512;
          // One that is refused changes nothing: it does not get as far as the data.
          if (image.write(1, at, 512)) {
            written.push_back(at);
          }
        }
      }
    }
    return image.close().has_value();
  }
};

// The image opens, nothing is corrupt, and bitmap "a" is void, or has all that was written.
void inspect(BitmapWorld& image, const std::vector<uint64_t>& written) {
  ASSERT_TRUE(image.open(false));
  const auto checked = image.run(image.node().driver().check({}));
  ASSERT_TRUE(checked);
  EXPECT_EQ(checked->corruptions, 0);
  if (DirtyBitmap* bitmap = image.find("a"); bitmap != nullptr && !bitmap->inconsistent()) {
    for (const uint64_t at : written) {
      EXPECT_TRUE(bitmap->marked(at)) << at;
    }
  }
  static_cast<void>(image.close());
}

testing::Qcow2Shape shape_of(Random& random) {
  testing::Qcow2Shape shape{.cluster_bits = static_cast<uint32_t>(random.pick({9, 10, 12, 16})),
                            .size = 300 << 10};
  if (shape.cluster_bits > 10 && random.chance(40)) {
    shape.backing_file = std::string(random.between(1, 700), 'x');
    shape.backing_format = random.chance(50) ? "raw" : "";
  }
  return shape;
}

TEST(Qcow2BitmapCutTest, APowerCutLeavesABitmapVoidOrWithAllThatWasWritten) {
  uint64_t states = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    for (uint64_t cut = 1;; cut += 1 + seed % 3) {
      SCOPED_TRACE(fmt::format("seed {} cut {}", seed, cut));
      Random random(seed);
      BitmapWorld image(seed * 1000 + cut);
      schema::BlockdevRefOrNull none;
      none.value = schema::Null{};
      image.options().backing = none;
      testing::Qcow2Builder builder(shape_of(random));
      image.world().add("image", builder.finish());
      Session session{.image = image, .random = random};
      ASSERT_TRUE(session.play());
      image.world().cut_power_at(cut);
      const bool finished = session.play();
      const bool powered = image.world().powered();
      image.world().restore_power();
      inspect(image, session.written);
      ++states;
      if (::testing::Test::HasFatalFailure() || ::testing::Test::HasNonfatalFailure()) {
        return;
      }
      if (finished && powered) {
        break;
      }
    }
  }
  RecordProperty("states", static_cast<int>(states));
  EXPECT_GT(states, 500U);
}

TEST(Qcow2BitmapFaultTest, AnErrorAtAnyRequestCorruptsNothingAndLosesNoMark) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    for (uint64_t after = 0;; after += 1 + seed % 2) {
      SCOPED_TRACE(fmt::format("seed {} after {}", seed, after));
      Random random(seed);
      BitmapWorld image(seed);
      schema::BlockdevRefOrNull none;
      none.value = schema::Null{};
      image.options().backing = none;
      testing::Qcow2Builder builder(shape_of(random));
      image.world().add("image", builder.finish());
      Session session{.image = image, .random = random};
      ASSERT_TRUE(session.play());
      image.world().add_fault(
          {.after = after, .error = seed % 2 == 0 ? EIO : ENOSPC, .torn = seed % 4 == 0});
      ::testing::internal::CaptureStderr();
      static_cast<void>(session.play());
      static_cast<void>(::testing::internal::GetCapturedStderr());
      const bool faulty = image.world().faults() != 0;
      image.world().clear_faults();
      inspect(image, session.written);
      if (::testing::Test::HasFatalFailure() || ::testing::Test::HasNonfatalFailure()) {
        return;
      }
      if (!faulty) {
        break;
      }
    }
  }
}

// The image as a kill leaves it, of which a bitmap could not be stored before the last write, since
// a request failed; `hit` says whether one did.
testing::SparseBytes killed_after_a_failed_store(uint64_t after, bool& hit) {
  BitmapWorld image;
  testing::Qcow2Builder builder({.cluster_bits = 16, .size = 1 << 20});
  image.world().add("image", builder.finish());
  EXPECT_TRUE(image.open());
  EXPECT_TRUE(image.add("b", 65536));
  EXPECT_TRUE(image.write(1, 0, 65536));
  image.world().add_fault({.after = after});
  static_cast<void>(image.run(image.driver().bitmaps().store()));
  hit = image.world().faults() != 0;
  image.world().clear_faults();
  static_cast<void>(image.write(2, 131072, 65536));
  testing::SparseBytes left = image.file().disk.visible();
  static_cast<void>(image.close());
  return left;
}

// The directory may call the bitmap clean by then.
TEST(Qcow2BitmapFaultTest, AfterABitmapCouldNotBeStoredWritesAreStillMarked) {
  bool hit = true;
  for (uint64_t after = 0; hit; ++after) {
    SCOPED_TRACE(after);
    const testing::SparseBytes left = killed_after_a_failed_store(after, hit);
    BitmapWorld image;
    image.world().add("image", left);
    ASSERT_TRUE(image.open());
    const block::DirtyBitmap* found = image.find("b");
    ASSERT_NE(found, nullptr);
    EXPECT_TRUE(found->inconsistent() || (found->marked(0) && found->marked(131072)));
  }
}

io::Task<void> remove_last(BitmapWorld& image) {
  static_cast<void>(co_await block::remove_bitmap(image.node(), "b"));
}

io::Task<void> write_later(BitmapWorld& image, io::Duration delay) {
  static_cast<void>(co_await io::sleep_for(delay));
  const std::vector<std::byte> bytes(512, std::byte{1});
  static_cast<void>(co_await image.edge().write(0, bytes.data(), bytes.size(), {}));
  static_cast<void>(co_await image.edge().flush());
}

io::Task<void> remove_while_writing(BitmapWorld& image, io::Duration delay) {
  io::TaskGroup group;
  group.spawn(remove_last(image));
  group.spawn(write_later(image, delay));
  co_await group.join();
}

// A flush sets the dirty bit of the header while the last bitmap leaves it: what one of them could
// neither write nor take back, the other must not complete by half.
TEST(Qcow2BitmapFaultTest, AHeaderThatCouldNotBePutBackIsNotTouchedAgain) {
  bool faulty = true;
  for (uint64_t after = 0; faulty && !::testing::Test::HasFailure(); ++after) {
    faulty = false;
    for (int step = 0; step < 40; ++step) {
      SCOPED_TRACE(fmt::format("fault after {}, write at step {}", after, step));
      BitmapWorld image;
      testing::Qcow2Builder builder({.cluster_bits = 9, .size = 1 << 20, .lazy_refcounts = true});
      image.world().add("image", builder.finish());
      ASSERT_TRUE(image.open());
      ASSERT_TRUE(image.add("b", 512));
      image.world().set_delays(std::chrono::microseconds(10));
      image.world().add_fault({.after = after, .times = 2});
      image.run(remove_while_writing(image, std::chrono::microseconds(4 * step)));
      faulty = faulty || image.world().faults() != 0;
      image.world().clear_faults();
      static_cast<void>(image.close());
      EXPECT_EQ(image.verify().corruptions, std::vector<std::string>{});
    }
  }
}

}  // namespace
}  // namespace cairn::qcow2
