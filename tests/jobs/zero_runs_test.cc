// Tests of jobs/zero_runs.h.
#include "jobs/zero_runs.h"

#include <algorithm>
#include <string>

#include <gtest/gtest.h>

namespace cairn::jobs {
namespace {

constexpr uint64_t kKib = 1024;

// "d" and "z" for each unit of data and zeroes.
std::vector<std::byte> bytes_of(std::string_view units, uint64_t unit) {
  std::vector<std::byte> bytes;
  for (const char c : units) {
    bytes.insert(bytes.end(), unit, c == 'd' ? std::byte{7} : std::byte{0});
  }
  return bytes;
}

// The same of what is found, in units.
std::string found(std::span<const std::byte> bytes, uint64_t position, const ZeroRunRules& rules,
                  uint64_t unit) {
  std::vector<DataRun> runs;
  find_zero_runs(bytes, position, rules, runs);
  std::string text;
  uint64_t offset = 0;
  for (const DataRun& run : runs) {
    EXPECT_EQ(run.offset, offset);
    EXPECT_EQ(run.length % unit, 0u);
    text.append(run.length / unit, run.zero ? 'z' : 'd');
    offset += run.length;
  }
  EXPECT_EQ(offset, bytes.size());
  return text;
}

TEST(ZeroRuns, AreFoundFromTheShortestLengthOn) {
  const auto bytes = bytes_of("dzdzzdzzzd", 4 * kKib);
  const auto with = [&](uint64_t shortest) {
    return found(bytes, 0, {.shortest = shortest, .image_length = bytes.size()}, 4 * kKib);
  };
  EXPECT_EQ(with(4 * kKib), "dzdzzdzzzd");
  EXPECT_EQ(with(8 * kKib), "dddzzdzzzd");
  EXPECT_EQ(with(12 * kKib), "ddddddzzzd");
  EXPECT_EQ(with(16 * kKib), "dddddddddd");
  EXPECT_EQ(with(0), "dddddddddd");
}

TEST(ZeroRuns, OfSectorsAreFoundWhenTheyCount) {
  const auto bytes = bytes_of("dzdzz", 512);
  EXPECT_EQ(found(bytes, 0, {.shortest = 512, .image_length = bytes.size()}, 512), "dzdzz");
  EXPECT_EQ(found(bytes, 0, {.shortest = 1024, .image_length = bytes.size()}, 512), "dddzz");
}

TEST(ZeroRuns, AreCutToWholeUnitsOfTheTarget) {
  const auto bytes = bytes_of("zzzddzzzzz", 4 * kKib);
  const ZeroRunRules rules{
      .shortest = 4 * kKib, .alignment = 8 * kKib, .image_length = kKib * kKib};
  EXPECT_EQ(found(bytes, 0, rules, 4 * kKib), "zzddddzzzz");
  EXPECT_EQ(found(bytes, 4 * kKib, rules, 4 * kKib), "dzzddzzzzd");
}

TEST(ZeroRuns, AtTheEndOfTheImageNeedNoWholeUnit) {
  const auto bytes = bytes_of("ddddz", 4 * kKib);
  const ZeroRunRules rules{
      .shortest = 4 * kKib, .alignment = 16 * kKib, .image_length = bytes.size()};
  EXPECT_EQ(found(bytes, 0, rules, 4 * kKib), "ddddz");
}

TEST(ZeroRuns, SmallerThanAUnitOfTheTargetAreData) {
  const auto bytes = bytes_of("dzzd", 4 * kKib);
  const ZeroRunRules rules{
      .shortest = 4 * kKib, .alignment = 64 * kKib, .image_length = kKib * kKib};
  EXPECT_EQ(found(bytes, 0, rules, 4 * kKib), "dddd");
}

}  // namespace
}  // namespace cairn::jobs
