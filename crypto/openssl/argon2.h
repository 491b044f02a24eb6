// Argon2 on libargon2; what it does is said in crypto/argon2_key.h. In the module with the ciphers,
// so that nobody loads the library who does not need it.
#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "crypto/argon2_key.h"

namespace cairn::crypto::openssl {

[[nodiscard]] Result<void> argon2(Argon2Kind kind, std::span<const std::byte> password,
                                  std::span<const std::byte> salt, Argon2Cost cost,
                                  std::span<std::byte> out);

}  // namespace cairn::crypto::openssl
