// Base64 (RFC 4648, section 4).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace cairn {

// Line breaks are passed over, and the padding at the end may be missing. EINVAL for any other
// character and for padding elsewhere.
[[nodiscard]] Result<std::string> decode_base64(std::string_view text);

[[nodiscard]] std::string encode_base64(std::string_view bytes);

}  // namespace cairn
