// The anti-forensic splitter of LUKS (on-disk format specification 1.2.3, section 2.4): inflates a
// key so that the loss of any part of the result, as by erasing a part of a disk, is the loss of
// the key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "crypto/algorithms.h"

namespace cairn::crypto {

// `out` has `stripes` times the bytes of `key`; at least one stripe.
[[nodiscard]] Result<void> split_key(Hash hash, uint32_t stripes, std::span<const std::byte> key,
                                     std::span<std::byte> out);
// The opposite.
[[nodiscard]] Result<void> merge_key(Hash hash, uint32_t stripes,
                                     std::span<const std::byte> material, std::span<std::byte> key);

}  // namespace cairn::crypto
