#include "block/zero_source.h"

#include <algorithm>
#include <cstddef>

namespace cairn::block {
namespace {

constexpr uint64_t kZeroes = 1 << 20;

// Not const, so that it lies in .bss, where reading maps the kernel's one page of zeroes.
alignas(4096) std::byte zeroes[kZeroes];

}  // namespace

io::IoVector zero_vector(uint64_t at_most) {
  return io::IoVector::of_const(zeroes, std::min(at_most, kZeroes));
}

}  // namespace cairn::block
