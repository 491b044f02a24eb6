// The disk of the tests of commit and sparsify: its size, and what its clusters hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/formats/qcow2/qcow2_test.h"

namespace cairn::jobs {

inline constexpr uint64_t kCluster = 4096;
inline constexpr uint64_t kLength = 16 * kCluster;

// The cluster at `offset` as the pattern of `number` fills it; testing::kZeroes: all zeroes.
inline std::vector<std::byte> content(uint64_t number, uint64_t offset) {
  std::vector<std::byte> data(kCluster);
  if (number != testing::kZeroes) {
    testing::fill_pattern(number, offset, data);
  }
  return data;
}

}  // namespace cairn::jobs
