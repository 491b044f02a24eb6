// Identifiers.
#include "base/identifier.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(Identifier, BeginsWithALetter) {
  EXPECT_TRUE(is_identifier("a-b.c_9"));
  EXPECT_FALSE(is_identifier("1a"));
  EXPECT_FALSE(is_identifier(""));
  EXPECT_FALSE(is_identifier("a b"));
}

}  // namespace
}  // namespace cairn
