// Sizes as people write them ("64k", "1.5G", "0x1000") and as tools show them ("1.18 MiB").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace cairn {

// Bytes from decimal digits, a fraction and a suffix (b, k, M, G, T, P or E, in either case, powers
// of 1024), or from hexadecimal digits alone. EINVAL when that is not what `text` is, ERANGE for
// 2^64 bytes or more. A negative number is EINVAL. A fraction of a byte is cut off.
[[nodiscard]] Result<uint64_t> parse_size(std::string_view text);

// Three significant digits in binary units: "512 B", "0.977 MiB", "64 MiB".
[[nodiscard]] std::string format_size(uint64_t bytes);

}  // namespace cairn
