// Metadata damaged at random: a repair never crashes, and what it calls clean is clean.
#include <gtest/gtest.h>

#include "tests/formats/qcow2/repair_test.h"
#include "tests/support/random.h"

namespace cairn::qcow2 {
namespace {

using testing::Qcow2Builder;
using testing::Random;

constexpr uint64_t kImages = 100;

testing::SparseBytes sound(Random& random) {
  const uint32_t bits = 9 + static_cast<uint32_t>(random.below(4));
  const uint64_t cluster = uint64_t{1} << bits;
  Qcow2Builder builder({.cluster_bits = bits,
                        .refcount_order = 2 + static_cast<uint32_t>(random.below(5)),
                        .size = 80 * cluster});
  std::vector<std::byte> data(cluster);
  const uint64_t snapshot_at = random.below(120);
  for (uint64_t i = 0; i < 70; ++i) {
    testing::fill_pattern(static_cast<testing::WriteNumber>(i + 1), i * cluster, data);
    if (random.below(2) == 0) {
      builder.data(i * cluster, data);
    } else if (random.below(3) == 0) {
      builder.zero(i * cluster, random.below(2) == 0);
    }
    if (i == snapshot_at) {
      builder.snapshot("1", "s");
    }
  }
  return builder.finish();
}

// Flips bits, or writes numbers, in tables. The guest's clusters lie behind one another in front of
// the tables, so a place anywhere is a table often enough.
void damage(RawImage& raw, Random& random) {
  const uint64_t places[] = {raw.l1(), raw.l2(), raw.table(), raw.block()};
  const uint64_t changes = 1 + random.below(6);
  for (uint64_t i = 0; i < changes; ++i) {
    uint64_t at = places[random.below(4)] + random.below(64) * 8;
    if (random.below(8) == 0) {
      at = 24 + random.below(10) * 8;  // the header from the size on
    }
    if (at + 8 > raw.bytes().size()) {
      continue;
    }
    const uint64_t value = raw.field(at);
    switch (random.below(3)) {
      case 0:
        raw.set(at, value ^ (uint64_t{1} << random.below(64)));
        break;
      case 1:
        raw.set(at, random.below(raw.bytes().size()) & ~uint64_t{511});
        break;
      default:
        raw.set(at, raw.field(places[random.below(4)]));
    }
  }
}

// The autoclear bit of bitmaps, without any: no reference, and so no matter for a check. The first
// write clears it.
void forget_bit_of_bitmaps(testing::Qcow2Verifier::Report& report) {
  std::erase_if(report.corruptions, [](const auto& line) {
    return line.starts_with("the header vouches for bitmaps");
  });
}

bool has_two_owners(const testing::Qcow2Verifier::Report& report) {
  return std::any_of(report.corruptions.begin(), report.corruptions.end(),
                     [](const auto& line) { return line.find(" is ") != std::string::npos; });
}

class Qcow2RandomRepairTest : public ::testing::TestWithParam<uint64_t> {};

TEST_P(Qcow2RandomRepairTest, EndsCleanOrSaysWhatIsLeft) {
  for (uint64_t i = 0; i < kImages; ++i) {
    const uint64_t seed = GetParam() * kImages + i;
    SCOPED_TRACE(seed);
    Random random(seed);
    RawImage raw(sound(random));
    damage(raw, random);
    ImageWorld image(seed);
    image.world().add("image", raw.bytes());
    const GuestContent before = guest_content(image);
    const RepairOutcome found = repair(image, Repair::kNone);
    RepairOutcome last;
    // What the first repair leaves, the second one may be able to do: an unaligned refcount block,
    // or references to what has been behind the end of the file.
    for (int round = 0; round < 4; ++round) {
      last = repair(image, Repair::kAll);
      if (last.clean() && last.lines.empty()) {
        break;
      }
    }
    const RepairOutcome check = repair(image, Repair::kNone);
    EXPECT_EQ(check.clean(), last.clean()) << last.text() << "---\n" << check.text();
    EXPECT_TRUE(check.clean() || !check.lines.empty() || !check.result) << check.text();
    if (check.clean()) {
      // Two owners of a cluster are what a check can not tell from a snapshot's.
      auto report = image.verify();
      forget_bit_of_bitmaps(report);
      EXPECT_TRUE(report.corruptions.empty() || has_two_owners(report))
          << report.corruptions.front() << "\n"
          << found.text();
    }
    // Data that is also metadata changes with it; everything else stays. Where counts can not be
    // read, the check does not tell what is shared.
    const bool shared = found.text().find("reference=2") != std::string::npos ||
                        found.text().find("reference=3") != std::string::npos ||
                        found.text().find("Can't get") != std::string::npos;
    const std::size_t loss = first_loss(before, guest_content(image));
    EXPECT_TRUE(loss == SIZE_MAX || shared) << loss << "\n" << found.text() << last.text();
    EXPECT_EQ(image.world().violations(), std::vector<std::string>{});
    if (HasFailure()) {
      return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Qcow2RandomRepairTest, ::testing::Range<uint64_t>(0, 5));

}  // namespace
}  // namespace cairn::qcow2
