// Random lives of jobs on backing chains. CAIRN_CHAIN_LIVES says how many, CAIRN_CHAIN_SEED which
// seed is the first; one that fails is lived again with that seed and one life.
#include "tests/jobs/chain_life.h"

#include <cstdlib>
#include <string>

#include <gtest/gtest.h>

namespace cairn::testing {
namespace {

uint64_t number_from(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST(ChainLifeTest, NothingThatIsReadEverChangesAndNothingDurableIsLost) {
  const uint64_t lives = number_from("CAIRN_CHAIN_LIVES", 400);
  const uint64_t first = number_from("CAIRN_CHAIN_SEED", 1);
  uint64_t cuts = 0;
  uint64_t successes = 0;
  for (uint64_t seed = first; seed < first + lives; ++seed) {
    ChainLife life(seed);
    const std::string found = life.live();
    ASSERT_EQ(found, "");
    cuts += life.cut() ? 1 : 0;
    successes += life.job_succeeded() ? 1 : 0;
  }
  if (lives >= 100) {
    EXPECT_GT(cuts, lives / 20);
    EXPECT_GT(successes, lives / 20);
  }
}

}  // namespace
}  // namespace cairn::testing
