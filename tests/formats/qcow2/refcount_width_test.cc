// Reference counts of every width.
#include <vector>

#include <gtest/gtest.h>

#include "formats/qcow2/refcounts.h"

namespace cairn::qcow2 {
namespace {

TEST(Qcow2RefcountWidth, StoresWithoutTouchingNeighbours) {
  for (uint32_t order = 0; order <= kMaxRefcountOrder; ++order) {
    const Geometry geometry{.refcount_order = order};
    std::vector<std::byte> block(512);
    const uint64_t entries = block.size() * 8 >> order;
    std::vector<uint64_t> model(entries);
    uint64_t state = order + 1;
    for (int i = 0; i < 4000; ++i) {
      state = state * 6364136223846793005 + 1442695040888963407;
      const uint64_t index = (state >> 33) % entries;
      model[index] = (state ^ state >> 17) & geometry.refcount_max();
      store_refcount(block.data(), order, index, model[index]);
    }
    for (uint64_t i = 0; i < entries; ++i) {
      ASSERT_EQ(load_refcount(block.data(), order, i), model[i]) << "order " << order;
    }
  }
}

TEST(Qcow2RefcountWidth, PutsTheFirstEntryIntoTheLowestBits) {
  const std::byte bytes[] = {std::byte{0b11000001}, std::byte{0x12}};
  EXPECT_EQ(load_refcount(bytes, 0, 0), 1u);
  EXPECT_EQ(load_refcount(bytes, 0, 7), 1u);
  EXPECT_EQ(load_refcount(bytes, 1, 3), 3u);
  EXPECT_EQ(load_refcount(bytes, 2, 2), 2u);
  EXPECT_EQ(load_refcount(bytes, 4, 0), 0xc112u) << "wider entries are big endian";
}

}  // namespace
}  // namespace cairn::qcow2
