// Ciphers, on OpenSSL.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace cairn::crypto {

// AES-256 in CBC mode with PKCS#7 padding. `key` has 32 bytes. EINVAL when the initialisation
// vector or the text has a wrong length, or the padding is wrong, as with another key.
[[nodiscard]] Result<std::string> decrypt_aes_256_cbc(std::string_view key, std::string_view iv,
                                                      std::string_view text);

// Overwrites what was secret, in a way that is not optimised away, and empties the string.
void wipe(std::string& text);

}  // namespace cairn::crypto
