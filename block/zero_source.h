// Zeroes to write from: memory that is shared, never changes and costs nothing until it is read.
#pragma once

#include <cstdint>

#include "io/iovector.h"

namespace cairn::block {

// A vector of `at_most` zero bytes, or of as many as there are in the source (1 MiB); page aligned.
[[nodiscard]] io::IoVector zero_vector(uint64_t at_most);

}  // namespace cairn::block
