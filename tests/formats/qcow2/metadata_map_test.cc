// The map of clusters that hold metadata.
#include "formats/qcow2/metadata_map.h"

#include <set>

#include <gtest/gtest.h>

namespace cairn::qcow2 {
namespace {

TEST(Qcow2MetadataMap, KnowsWhatWasAddedAndNothingElse) {
  MetadataMap map(16);
  map.add(0, 1);
  map.add(0x30000, 0x20001);  // three clusters
  EXPECT_TRUE(map.overlaps(0xffff, 1));
  EXPECT_FALSE(map.overlaps(0x10000, 0x20000));
  EXPECT_TRUE(map.overlaps(0x2ffff, 2));
  EXPECT_TRUE(map.overlaps(0x5ffff, 1));
  EXPECT_FALSE(map.overlaps(0x60000, uint64_t{1} << 40));
  map.remove(0x40000, 1);
  EXPECT_FALSE(map.overlaps(0x40000, 0x10000));
  EXPECT_TRUE(map.overlaps(0x40000, 0x10001));
}

TEST(Qcow2MetadataMap, AgreesWithASetForScatteredClusters) {
  MetadataMap map(9);
  std::set<uint64_t> model;
  uint64_t state = 1;
  for (int i = 0; i < 5000; ++i) {
    state = state * 6364136223846793005 + 1442695040888963407;
    const uint64_t cluster = (state >> 40) % 3000 + ((state >> 30) % 4 << 40);
    if (state % 3 == 0) {
      map.remove(cluster << 9, 512);
      model.erase(cluster);
    } else {
      map.add(cluster << 9, 512);
      model.insert(cluster);
    }
  }
  for (uint64_t high = 0; high < 4; ++high) {
    for (uint64_t low = 0; low < 3000; ++low) {
      const uint64_t cluster = low + (high << 40);
      ASSERT_EQ(map.overlaps(cluster << 9, 512), model.contains(cluster)) << cluster;
    }
  }
}

}  // namespace
}  // namespace cairn::qcow2
