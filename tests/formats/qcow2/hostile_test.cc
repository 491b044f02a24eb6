// Images made to do harm: opened, read, written and checked without any.
#include "tests/formats/qcow2/hostile.h"

#include <vector>

#include <gtest/gtest.h>

#include "tests/support/random.h"

namespace cairn::qcow2 {
namespace {

// The sanitizers are what finds something here, and time-outs.
TEST(Qcow2HostileImages, AreReadChangedAndClosedInBounds) {
  testing::Random random(7);
  for (int i = 0; i < 400; ++i) {
    std::vector<uint8_t> input(10 + random.below(120));
    for (uint8_t& byte : input) {
      // Small numbers and single bits are the interesting ones.
      byte = static_cast<uint8_t>(random.chance(50) ? random.below(256)
                                                    : uint64_t{1} << random.below(8));
    }
    play_hostile_image(input);
  }
}

}  // namespace
}  // namespace cairn::qcow2
