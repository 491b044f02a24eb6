// Power cuts and errors at every request, for both versions: what making a volume, changing its
// keys, writing to it and resizing it may leave behind.
#include <cerrno>
#include <functional>
#include <string>

#include "base/bytes.h"
#include "formats/encryption/luks2_header.h"
#include "tests/formats/luks/volume_world.h"

namespace cairn::luks {
namespace {

constexpr uint64_t kSector512 = 512;

struct Version {
  const char* name;
  VolumeOptions options;
  [[nodiscard]] bool second() const { return options.contains("version"); }
  [[nodiscard]] VolumeOptions with_size(uint64_t size) const {
    VolumeOptions all = options;
    all["size"] = std::to_string(size);
    return all;
  }
};

std::ostream& operator<<(std::ostream& out, const Version& version) { return out << version.name; }

const Version kVersions[] = {
    {"Luks1", {}}, {"Luks2", {{"version", "luks2"}, {"pbkdf", "pbkdf2"}, {"sector-size", "512"}}}};

// A change of keys of a volume that "first" opens, and "second" from slot 1 unless that is added.
struct Change {
  const char* name;
  bool starts_with_second;
  std::function<std::string(VolumeWorld&)> make;
  bool second_opens;
  bool third_opens;
};

const Change kChanges[] = {
    {"adding", false, [](VolumeWorld& volume) { return volume.add("second"); }, true, false},
    {"erasing", true, [](VolumeWorld& volume) { return volume.erase("second"); }, false, false},
    {"replacing", true, [](VolumeWorld& volume) { return volume.replace("third"); }, false, true}};

class LuksCrash : public ::testing::TestWithParam<Version> {
 protected:
  // Opened, and on the disk.
  static void start(VolumeWorld& volume, const Change& change) {
    ASSERT_TRUE(volume.create()) << volume.error();
    volume.make_durable();
    ASSERT_TRUE(volume.open("first")) << volume.error();
    if (change.starts_with_second) {
      ASSERT_EQ(volume.add("second"), "");
    }
  }

  // Of version 2: two copies with one number, when they are sound, say the same; `both`: they are
  // sound, and have.
  static void expect_copies(VolumeWorld& volume, bool both) {
    constexpr uint64_t kCopy = 16384;
    constexpr std::size_t kNumberAt = 16;
    std::string texts[2];
    uint64_t numbers[2] = {UINT64_MAX, UINT64_MAX - 1};  // of copies that are not sound
    for (const std::size_t copy : {0u, 1u}) {
      const std::vector<std::byte> bytes =
          volume.world().find("v")->disk.visible().read(copy * kCopy, kCopy);
      const auto header = encryption::parse_luks2_copy(bytes, copy == 1);
      EXPECT_TRUE(header || !both) << copy;
      if (header) {
        texts[copy] = to_text(schema::JsonValue(header->json));
        numbers[copy] = load_be<uint64_t>(header->binary.data() + kNumberAt);
      }
    }
    EXPECT_TRUE(numbers[0] == numbers[1] || !both);
    EXPECT_TRUE(numbers[0] != numbers[1] || texts[0] == texts[1]) << "number " << numbers[0];
  }

  // After whatever has happened: the other key is good, and keys can be added.
  static void expect_sound(VolumeWorld& volume) {
    if (GetParam().second()) {
      expect_copies(volume, false);
    }
    ASSERT_TRUE(volume.open("first")) << volume.error();
    ASSERT_EQ(volume.add("fourth"), "");
    volume.close();
    EXPECT_TRUE(volume.opens("fourth"));
    EXPECT_TRUE(volume.opens("first"));
    if (GetParam().second()) {
      expect_copies(volume, true);
    }
  }
};

TEST_P(LuksCrash, APowerCutWhileKeysChangeCostsNoOtherKey) {
  for (const Change& change : kChanges) {
    for (uint64_t cut = 1, more = 1; more != 0; ++cut) {
      SCOPED_TRACE(fmt::format("{}, cut at request {}", change.name, cut));
      VolumeWorld volume(cut, GetParam().options);
      ASSERT_NO_FATAL_FAILURE(start(volume, change));
      volume.world().cut_power_at(cut);
      const std::string error = change.make(volume);
      more = volume.world().powered() ? 0 : 1;
      if (more == 0) {
        EXPECT_GT(cut, 5u);
        volume.world().cut_power();
      }
      volume.close();
      volume.world().restore_power();
      ASSERT_TRUE(volume.opens("first")) << volume.error();
      if (error.empty()) {
        EXPECT_EQ(volume.opens("second"), change.second_opens);
        EXPECT_EQ(volume.opens("third"), change.third_opens);
      }
      expect_sound(volume);
      if (HasFailure()) {
        return;
      }
    }
  }
}

// After which the volume goes on being used.
TEST_P(LuksCrash, AnErrorWhileKeysChangeIsToldAndCostsNoOtherKey) {
  for (const int error : {EIO, ENOSPC}) {
    for (const Change& change : kChanges) {
      for (uint64_t after = 0, hit = 1; hit != 0; ++after) {
        SCOPED_TRACE(fmt::format("{}, error {} after {} requests", change.name, error, after));
        VolumeWorld volume(1, GetParam().options);
        ASSERT_NO_FATAL_FAILURE(start(volume, change));
        volume.world().add_fault({.after = after, .error = error, .torn = after % 2 == 1});
        const std::string told = change.make(volume);
        hit = volume.world().faults();
        ASSERT_EQ(hit != 0, !told.empty());
        volume.world().clear_faults();
        if (hit == 0) {
          EXPECT_GT(after, 5u);
        }
        ASSERT_EQ(volume.add("fifth"), "") << "with what is known of the slots";
        volume.close();
        EXPECT_TRUE(volume.opens("fifth"));
        expect_sound(volume);
        if (HasFailure()) {
          return;
        }
      }
    }
  }
}

// An error, then a power cut in the next change: what the failed one has left is not taken for what
// came after it.
TEST_P(LuksCrash, APowerCutAfterAnErrorCostsNoOtherKey) {
  for (uint64_t after = 0, hit = 1; hit != 0; ++after) {
    for (uint64_t cut = 1, more = 1; more != 0; ++cut) {
      SCOPED_TRACE(fmt::format("error after {} requests, cut at request {}", after, cut));
      VolumeWorld volume(cut, GetParam().options);
      ASSERT_NO_FATAL_FAILURE(start(volume, kChanges[0]));
      volume.world().add_fault({.after = after, .error = EIO, .torn = true});
      static_cast<void>(volume.add("second"));
      hit = volume.world().faults();
      volume.world().clear_faults();
      volume.world().cut_power_at(cut);
      const std::string error = volume.add("third");
      more = volume.world().powered() ? 0 : 1;
      if (more == 0) {
        volume.world().cut_power();
      }
      volume.close();
      volume.world().restore_power();
      ASSERT_TRUE(volume.opens("first")) << volume.error();
      if (error.empty()) {
        EXPECT_TRUE(volume.opens("third"));
      }
      expect_sound(volume);
      if (HasFailure()) {
        return;
      }
    }
  }
}

// A file that was to become a volume is none, or one with its key; and can be made one.
TEST_P(LuksCrash, AVolumeThatWasNotMadeCanBeMadeAgain) {
  for (const bool cuts : {true, false}) {
    for (const bool over_another : {false, true}) {
      for (uint64_t request = 1, hit = 1; hit != 0; ++request) {
        SCOPED_TRACE(fmt::format("{} at request {}, over another: {}", cuts ? "power cut" : "error",
                                 request, over_another));
        VolumeWorld volume(request, GetParam().options);
        if (over_another) {
          ASSERT_TRUE(volume.create());
          volume.make_durable();
        }
        if (cuts) {
          volume.world().cut_power_at(request);
        } else {
          const int error = request % 2 == 0 ? EIO : ENOSPC;
          volume.world().add_fault({.after = request - 1, .error = error, .torn = true});
        }
        const bool created = volume.create();
        hit = cuts ? (volume.world().powered() ? 0 : 1) : volume.world().faults();
        EXPECT_EQ(created, hit == 0) << volume.error();
        volume.world().clear_faults();
        volume.world().restore_power();
        if (hit == 0) {
          EXPECT_TRUE(volume.opens("first")) << volume.error();
        } else if (volume.world().find("v") != nullptr && !volume.opens("first")) {
          EXPECT_NE(volume.error(), "");
        }
        ASSERT_TRUE(volume.create()) << volume.error();
        EXPECT_TRUE(volume.opens("first")) << volume.error();
        if (HasFailure()) {
          return;
        }
      }
    }
  }
}

constexpr uint64_t kSmall = 16384;
constexpr uint64_t kLarge = 3 * kSmall;

// Writes of parts of sectors, then growing, writing, shrinking. Says what has been done durably.
struct Progress {
  bool written = false;
  bool grown = false;
  bool filled = false;
  bool shrunk = false;
};

Progress write_and_resize(VolumeWorld& volume) {
  Progress progress;
  progress.written =
      volume.write(2, 1000, 3000) && volume.write(3, 8 * kSector512, 4096) && volume.flush();
  progress.grown = progress.written && volume.resize(kLarge) && volume.flush();
  progress.filled = progress.grown && volume.write(4, kSmall, 5000) && volume.flush();
  progress.shrunk = progress.filled && volume.resize(kSmall) && volume.flush();
  return progress;
}

// What write 1 has left everywhere, and the others where they have been.
void expect_disk(VolumeWorld& volume, const Progress& progress) {
  const uint64_t length = volume.edge().length();
  EXPECT_TRUE(length == kSmall || length == kLarge) << length;
  EXPECT_TRUE(volume.holds(1, 0, 512));
  EXPECT_TRUE(volume.holds(1, 9000, kSmall - 9000));
  if (progress.written) {
    EXPECT_TRUE(volume.holds(1, 512, 488));
    EXPECT_TRUE(volume.holds(2, 1000, 3000));
    EXPECT_TRUE(volume.holds(1, 4000, 96));
    EXPECT_TRUE(volume.holds(3, 4096, 4096));
  }
  if (progress.grown && !progress.filled) {
    EXPECT_EQ(length, kLarge);
    EXPECT_TRUE(volume.holds(testing::kZeroes, kSmall + 5120, kLarge - kSmall - 5120));
  }
  if (progress.shrunk) {
    EXPECT_EQ(length, kSmall);
  } else if (progress.filled && length == kLarge) {
    EXPECT_TRUE(volume.holds(4, kSmall, 5000));
    EXPECT_TRUE(volume.holds(testing::kZeroes, kSmall + 5000, kLarge - kSmall - 5000));
  }
}

TEST_P(LuksCrash, WhatWasFlushedIsThereWhateverIsResized) {
  for (const bool cuts : {true, false}) {
    for (uint64_t request = 1, hit = 1; hit != 0; ++request) {
      SCOPED_TRACE(fmt::format("{} at request {}", cuts ? "power cut" : "error", request));
      VolumeWorld volume(request, GetParam().with_size(kSmall));
      ASSERT_TRUE(volume.create()) << volume.error();
      ASSERT_TRUE(volume.open("first"));
      ASSERT_TRUE(volume.write(1, 0, kSmall));
      volume.close();
      volume.make_durable();
      ASSERT_TRUE(volume.open("first"));
      if (cuts) {
        volume.world().cut_power_at(request);
      } else {
        const int error = request % 2 == 0 ? EIO : ENOSPC;
        volume.world().add_fault({.after = request - 1, .error = error});
      }
      const Progress progress = write_and_resize(volume);
      hit = cuts ? (volume.world().powered() ? 0 : 1) : volume.world().faults();
      EXPECT_EQ(progress.shrunk, hit == 0);
      volume.close();
      volume.world().clear_faults();
      volume.world().restore_power();
      ASSERT_TRUE(volume.open("first")) << volume.error();
      expect_disk(volume, progress);
      EXPECT_TRUE(write_and_resize(volume).shrunk) << "the same again";
      if (HasFailure()) {
        return;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Versions, LuksCrash, ::testing::ValuesIn(kVersions),
                         [](const auto& version) { return std::string(version.param.name); });

}  // namespace
}  // namespace cairn::luks
